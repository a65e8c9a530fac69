# SPDX-License-Identifier: GPL-2.0-only
"""machines.toml and tests.toml, read and checked: a typing error there must not hide a test."""

from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import settings
from console import BOOT, KUNIT, Test
from settings import HERE, REPO, fail


@dataclass
class Machine:
    """One table of machines.toml."""
    name: str
    arch: str
    emulator: str
    command: str
    cmdline: str
    boot_limit: int
    time_limit: int
    proves: str
    proves_not: str
    bochsrc: str = ""
    cpu: str = ""
    config: str = ""
    suites: list[str] = field(default_factory=list)


def read(name: str) -> dict[str, Any]:
    path = HERE / name
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        fail(f"{path}: {error}")


def build(kind: type[Any], where: str, values: dict[str, Any]) -> Any:
    """An object of the dataclass `kind`; unknown and missing fields are errors."""
    known = {item.name for item in fields(kind)}
    if set(values) - known:
        fail(f"{where}: unknown field {', '.join(sorted(set(values) - known))}")
    try:
        return kind(**values)
    except TypeError as error:
        fail(f"{where}: {error}")


def all_machines() -> dict[str, Machine]:
    machines = {}
    tables: dict[str, dict[str, Any]] = {"": {}}
    for name, values in read("machines.toml").items():
        like = values.pop("like", "")
        if like not in tables:
            fail(f"machines.toml: {name}: no machine {like} above it")
        tables[name] = values = {**tables[like], **values, "name": name}
        machine: Machine = build(Machine, f"machines.toml: {name}", values)
        if machine.arch not in settings.ARCHES:
            fail(f"machines.toml: {name}: unknown arch {machine.arch}")
        if machine.emulator not in ("qemu", "bochs"):
            fail(f"machines.toml: {name}: unknown emulator {machine.emulator}")
        if machine.config not in settings.CONFIGS:
            fail(f"machines.toml: {name}: unknown config {machine.config}")
        machines[name] = machine
    return machines


def all_tests(machines: dict[str, Machine]) -> list[Test]:
    tests = []
    taken: set[tuple[str, str]] = set()
    for number, values in enumerate(read("tests.toml")["test"], 1):
        where = f"tests.toml: test {values.get('suite', number)}"
        rows = values.pop("rows", {})
        everywhere = [name for name, item in machines.items()
                      if values.get("suite") in item.suites
                      or not item.suites and not item.config]
        test: Test = build(Test, where, {"machines": everywhere, **values})
        test.program = test.program or test.suite
        test.rows = {row: expectation(where, row, wanted, machines)
                     for row, wanted in rows.items()}
        if test.suite == BOOT or " " in test.suite:
            fail(f"{where}: the name is reserved or has a space")
        if not all(isinstance(arg, str) and len(arg.split()) == 1 for arg in test.args):
            fail(f"{where}: args must be words without spaces")
        for name in test.machines:
            if name not in machines:
                fail(f"{where}: unknown machine {name}")
            if (name, test.suite) in taken:
                fail(f"{where}: is there twice for {name}")
            taken.add((name, test.suite))
        tests.append(test)
    for name, item in machines.items():
        for suite in set(item.suites) - {test.suite for test in tests}:
            fail(f"machines.toml: {name}: tests.toml has no suite {suite}")
    return tests


def expectation(where: str, row: str, wanted: dict[str, Any],
                machines: dict[str, Machine]) -> dict[str, str]:
    """What a row should read, by machine; under KERNEL=base its table `base` goes first."""
    base = wanted.pop("base", {})
    for name in [*wanted, *base]:
        if name not in machines:
            fail(f"{where}: row {row}: unknown machine {name}")
    if settings.KERNEL != "base":
        return wanted
    # Empty: the base cannot have this row.
    return {name: value for name, value in {**wanted, **base}.items() if value}


def runs_with(machine: Machine, config: str) -> bool:
    """Whether the machine runs with a kernel of CONFIG=config."""
    if machine.config or config == "vmm":
        return machine.config == config
    # KASAN and lockdep would make Bochs take hours.
    return not (config == "debug" and machine.emulator == "bochs")


def select(every: bool = False) -> tuple[dict[str, Machine], list[Test]]:
    """The machines and tests that MACHINE= and TEST= leave; shell patterns, comma-separated.

    Of the machines, those that run with the kernel of CONFIG=, or all of them."""
    def chosen(name: str, patterns: str) -> bool:
        return not patterns or any(fnmatch.fnmatchcase(name, pattern.strip())
                                   for pattern in patterns.split(","))

    everything = all_machines()
    tests = [test for test in all_tests(everything) if chosen(test.suite, settings.TEST)
             and (test.base or settings.KERNEL != "base")]
    named = {name: machine for name, machine in everything.items()
             if chosen(name, settings.MACHINE) and any(name in test.machines for test in tests)}
    machines = {name: machine for name, machine in named.items()
                if every or runs_with(machine, settings.CONFIG)}
    if not machines:
        config = f" CONFIG={settings.CONFIG}" if settings.CONFIG else ""
        commands = sorted({f"make {machine.config or 'matrix'}" for machine in named.values()})
        hint = " or ".join(commands)
        fail(f"no test matches MACHINE={settings.MACHINE} TEST={settings.TEST}{config} "
             f"({f'it takes {hint}' if hint else 'see make list'})")
    return machines, tests


def is_ours(test: Test) -> bool:
    """Whether its program is this repository's, not upstream's."""
    return (REPO / "tools/testing/selftests" / f"{test.program}.c").is_file()


def programs(arch: str) -> list[Path]:
    """The selftest programs that the machines of `arch` and their guests run, as
    <directory>/<program>."""
    machines = all_machines()
    return sorted({Path(program) for test in all_tests(machines) if test.suite != KUNIT
                   and any(machines[name].arch == arch for name in test.machines)
                   for program in (test.program, *test.guest)})
