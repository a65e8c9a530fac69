# SPDX-License-Identifier: GPL-2.0-only
"""machines.toml and the tables of tests, read and checked: a typing error must not hide a test."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import settings
from results import BOOT, KUNIT
from settings import REPO, checked, fail

# Upstream's selftests that only one base has are in a table of their own.
UPSTREAM = [name for name in ("upstream.toml", f"upstream_{settings.BASE.replace('.', '_')}.toml")
            if (settings.HERE / name).exists()]
TESTS = ["tests.toml", *UPSTREAM]
# Where the programs are, here and in the kernel's tree.
SELFTESTS = "tools/testing/selftests"
# What a machine does not take over from the one that it is like.
OWN = ("compat", "compat_tcg", "compat_cmdline", "bench", "optional", "by_name", "bases")


@dataclass
class Machine:
    """One table of machines.toml."""
    name: str
    arch: str
    emulator: str
    command: str
    cmdline: str
    boot: float
    proves: str
    proves_not: str
    bochsrc: str = ""
    carries: str = ""
    cpu: str = ""
    config: str = ""
    compat: bool = False
    compat_tcg: str = ""
    compat_cmdline: str = ""
    bench: list[str] = field(default_factory=list)
    coherent: bool = False
    optional: bool = False
    by_name: bool = False
    bases: list[str] = field(default_factory=list)
    suites: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    # It and what it is like, the nearest first: the expectations that hold for it.
    family: list[str] = field(default_factory=list)

    @property
    def counts(self) -> bool:
        """Whether the clock of its guest counts instructions, not time."""
        return self.emulator == "bochs" or "-icount" in self.command

    @property
    def has_qemu(self) -> bool:
        """Whether a QEMU that is not ours runs in it, if any VMM does."""
        return self.emulator != "bochs" or bool(self.carries)

    @property
    def kernel(self) -> tuple[str, str]:
        """What it boots: architecture and configuration, its own or that of CONFIG=."""
        return self.arch, self.config or settings.CONFIG


@dataclass
class Test:
    """One entry of tests.toml or upstream.toml."""
    suite: str
    machines: list[str]
    timeout: int = 60
    program: str = ""
    args: list[str] = field(default_factory=list)
    ktap: bool = True
    base: bool = True
    slow: bool = False
    proves: str = ""
    proves_not: str = ""
    guest: list[str] = field(default_factory=list)
    fails: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    # Machine → test → why it is skipped there; patterns both. Of no machine if that is not known.
    skips: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class LeftOut:
    """One entry of upstream.toml's list of programs that a machine does not run."""
    program: str            # or a shell pattern
    machines: list[str]
    why: str
    base: str               # what it came to when it was last tried, on the base
    patched: str            # and with our patches


def all_machines() -> dict[str, Machine]:
    machines: dict[str, Machine] = {}
    tables: dict[str, dict[str, Any]] = {"": {}}
    for name, values in settings.table("machines.toml").items():
        like = values.pop("like", "")
        if like not in tables:
            fail(f"machines.toml: {name}: no machine {like} above it")
        family = [name, *(machines[like].family if like else [])]
        values = {**{key: value for key, value in tables[like].items() if key not in OWN}, **values}
        tables[name] = values
        machine: Machine = checked(Machine, f"machines.toml: {name}",
                                   {**values, "name": name, "family": family})
        if machine.arch not in settings.ARCHES:
            fail(f"machines.toml: {name}: unknown arch {machine.arch}")
        if machine.emulator not in ("qemu", "bochs"):
            fail(f"machines.toml: {name}: unknown emulator {machine.emulator}")
        if not all(path.exists() for path in settings.fragments(machine.config)):
            fail(f"machines.toml: {name}: unknown config {machine.config}")
        if not set(machine.bases) <= settings.BASES.keys():
            fail(f"machines.toml: {name}: unknown base in {machine.bases}")
        machines[name] = machine
    return machines


def runs_on(test: dict[str, Any], machine: Machine) -> bool:
    """Whether a machine runs a test, as one that it names, or by its own list of suites.

    A test that names a machine means those that are like it, too, as long as they run with the same
    kernel and have no list that lacks it.
    """
    by_default = test.get("suite") in machine.suites if machine.suites else not machine.config
    if "machines" not in test:
        return by_default
    named = [name for name in machine.family if name in test["machines"]]
    return machine.name in named or bool(named) and by_default


def entries_of(file: str, kind: str, *names: str) -> list[tuple[int, dict[str, Any]]]:
    """The numbered entries of a table, with the values of `names` as this base calls them."""
    renames = settings.BASES[settings.BASE].renames
    found = list(enumerate(settings.table(file).get(kind, []), 1))
    for _, values in found:
        for name in set(names) & values.keys():
            old = next((old for old in renames if values[name].startswith(old)), "")
            values[name] = renames.get(old, "") + values[name].removeprefix(old)
    return found


def all_tests(machines: dict[str, Machine]) -> list[Test]:
    tests = []
    taken: set[tuple[str, str]] = set()
    entries = [(file, number, values) for file in TESTS
               for number, values in entries_of(file, "test", "suite", "program")]
    # An entry that names a machine itself goes before one that names what the machine is like.
    direct = {(name, values.get("suite")) for _, _, values in entries
              for name in values.get("machines", [])}
    for file, number, values in entries:
        where = f"{file}: test {values.get('suite', number)}"
        for name in values.get("machines", []):
            if name not in machines:
                fail(f"{where}: unknown machine {name}")
        rows, skips = values.pop("rows", {}), values.pop("skips", {})
        fails = {name: failure(why) for name, why in values.pop("fails", {}).items()}
        on = [name for name, item in machines.items() if runs_on(values, item)
              and (name in values.get("machines", ())
                   or (name, values.get("suite")) not in direct)]
        test: Test = checked(Test, where, {**values, "machines": on})
        test.fails = {name: why for name, why in fails.items() if why}
        test.program = test.program or test.suite
        test.rows = {row: {name: value for name, value in expectation(
            f"{where}: row {row}", wanted, machines).items() if not lacks(machines[name], row)}
            for row, wanted in rows.items()}
        test.skips = expected_skips(where, skips, test, machines)
        check_test(where, test, taken)
        tests.append(test)
    for name, item in machines.items():
        for suite in set(item.suites) - {test.suite for test in tests}:
            fail(f"machines.toml: {name}: there is no suite {suite}")
    return tests


def check_test(where: str, test: Test, taken: set[tuple[str, str]]) -> None:
    if test.suite == BOOT or " " in test.suite:
        fail(f"{where}: the name is reserved or has a space")
    if not all(isinstance(arg, str) and len(arg.split()) == 1 for arg in test.args):
        fail(f"{where}: args must be words without spaces")
    for name in test.machines:
        if (name, test.suite) in taken:
            fail(f"{where}: is there twice for {name}")
        taken.add((name, test.suite))


def failure(why: str | dict[str, Any]) -> str:
    """Why a test is expected to fail here, if it is: on all bases, or on that of BASE=; the table
    `base` of the latter is for KERNEL=base, whose bug our patches mend."""
    if isinstance(why, str):
        return why
    base = why.get("base", {}) if settings.KERNEL == "base" else {}
    return str({**why, **base}.get(settings.BASE, ""))


def expectation(where: str, wanted: dict[str, Any],
                machines: dict[str, Machine]) -> dict[str, str]:
    """What is expected, by machine: what its own name says or else what it is like. The table
    `base` goes first under KERNEL=base, then that of BASE=, by its name. Empty means that the
    machine does not have it."""
    own = {name: wanted.pop(name, {}) for name in ("base", *settings.BASES)}
    for name in [name for table in (wanted, *own.values()) for name in table]:
        if name not in machines:
            fail(f"{where}: unknown machine {name}")
    tables = [*([own["base"]] if settings.KERNEL == "base" else []), own[settings.BASE], wanted]
    found = {}
    for name, machine in machines.items():
        values = [table[like] for table in tables for like in machine.family if like in table]
        if values and values[0]:
            found[name] = values[0]
    return found


def lacks(machine: Machine, row: str) -> bool:
    """Whether the machine does not have a row although one that it is like may have it."""
    return any(fnmatch.fnmatchcase(row, pattern) for pattern in machine.lacks)


def expected_skips(where: str, skips: dict[str, Any], test: Test,
                   machines: dict[str, Machine]) -> dict[str, dict[str, str]]:
    """Machine → test → reason. The tables are for the patched kernel: the base skips more."""
    if settings.KERNEL == "base":
        return {}
    found: dict[str, dict[str, str]] = {name: {} for name in test.machines}
    for name, wanted in skips.items():
        for machine, reason in expectation(f"{where}: skip {name}", wanted, machines).items():
            if machine in found:
                found[machine][name] = reason
    return found


def left_out(machines: dict[str, Machine]) -> list[LeftOut]:
    """Upstream's programs that a machine of upstream.toml does not run, with the reason."""
    entries: list[LeftOut] = [
        checked(LeftOut, f"{file}: left out {values.get('program', number)}", values)
        for file in UPSTREAM for number, values in entries_of(file, "left_out", "program")]
    for entry in entries:
        for name in entry.machines:
            if name not in machines:
                fail(f"upstream.toml: left out {entry.program}: unknown machine {name}")
    return entries


def boots_base(machine: Machine) -> bool:
    """Whether the machine boots the kernels of BASE=."""
    return not machine.bases or settings.BASE in machine.bases


def runs_with(machine: Machine, config: str) -> bool:
    """Whether the machine runs with a kernel of CONFIG=config."""
    if "vmm" in (machine.config, config):
        return machine.config == config
    # One more kernel of the matrix, of which there is no other variant.
    if machine.config:
        return not config
    # KASAN and lockdep would make Bochs take hours.
    return not (config == "debug" and machine.emulator == "bochs")


def select(every: bool = False, slow: bool = False) -> tuple[dict[str, Machine], list[Test]]:
    """The machines and tests that MACHINE= and TEST= leave; shell patterns, comma-separated.

    Of the machines, those that run with the kernel of BASE= and CONFIG=, or every one of BASE=; of
    the tests, those of the matrix, or the slow ones, too."""
    def chosen(name: str, patterns: str) -> bool:
        return not patterns or any(fnmatch.fnmatchcase(name, pattern.strip())
                                   for pattern in patterns.split(","))

    everything = all_machines()
    tests = [test for test in all_tests(everything) if chosen(test.suite, settings.TEST)
             and (test.base or settings.KERNEL != "base")
             and (every or slow or not test.slow)]
    named = {name: machine for name, machine in everything.items()
             if chosen(name, settings.MACHINE) and any(name in test.machines for test in tests)}
    machines = {name: machine for name, machine in named.items()
                if boots_base(machine) and (every or runs_with(machine, settings.CONFIG)
                                            and (settings.MACHINE or not machine.by_name))}
    if not machines:
        config = f" CONFIG={settings.CONFIG}" if settings.CONFIG else ""
        commands = sorted({f"make {'vmm' if machine.config == 'vmm' else 'matrix'}"
                           f"{'' if boots_base(machine) else f' BASE={machine.bases[0]}'}"
                           for machine in named.values()})
        hint = " or ".join(commands)
        fail(f"no test matches MACHINE={settings.MACHINE} TEST={settings.TEST}{config} "
             f"({f'it takes {hint}' if hint else 'see make list'})")
    return machines, tests


def is_ours(test: Test) -> bool:
    """Whether its program is this repository's, not upstream's."""
    return (REPO / SELFTESTS / f"{test.program}.c").is_file()


def programs(arch: str, slow: bool = False) -> list[Path]:
    """The selftest programs that the machines of `arch` and their guests run, as
    <directory>/<program>; of a script, the program that it is about."""
    machines = all_machines()
    return sorted({Path(program.removesuffix(".sh"))
                   for test in all_tests(machines) if test.suite != KUNIT
                   and (slow or not test.slow)
                   and any(machines[name].arch == arch for name in test.machines)
                   for program in (test.program, *test.guest)})
