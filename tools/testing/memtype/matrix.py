# SPDX-License-Identifier: GPL-2.0-only
"""The main job: builds kernels and selftests, boots the machines, judges and reports."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import build
import coverage
import debian
import judge
import machine
import report
import rootfs
import settings
import summary
import tables
import tree
from results import BOOT, FAIL, KUNIT, NOT_RUN, PROGRAM, SKIP, Result
from settings import (ARCHES, BUILD, JOBS, KERNEL, OUT, REPO, SHARED, TREES, fail, output,
                      say)
from tables import Machine, Test


def version(command: list[str]) -> str:
    try:
        done = subprocess.run(command, text=True, capture_output=True, check=False)
    except OSError:
        return "not found"
    return (done.stdout or done.stderr).strip().split("\n", 1)[0]


def tools() -> dict[str, str]:
    """What machines are built and run with, as its version says."""
    programs = ["ccache", "python3", *(f"{arch.cross}gcc" for arch in ARCHES.values()),
                *(program for arch in ARCHES.values() for program in arch.packages.values()
                  if program.startswith("qemu"))]
    return {**{name: version([name, "--version"]) for name in programs},
            "bochs": debian.bochs_version() or "not found"}


def environment(base: tree.Base, runs: list[machine.Run]) -> dict[str, Any]:
    """What one must know to get the same results again."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": output(["git", "-C", REPO, "describe", "--always", "--dirty", "--abbrev=12"]
                         ).strip(),
        "kernel": f"{base.version} ({', '.join(filter(None, (KERNEL, settings.CONFIG)))})",
        "base": tree.git("log", "-1", "--format=%s", base.commit),
        "tested": base.tested,
        "note": base.note(),
        "own work in the tree": bool(tree.own_work(KERNEL)),
        "command": f"make {settings.TARGET}{settings.variables()}" + "".join(
            f" {name}={shlex.quote(value)}" for name, value in
            (("MACHINE", settings.MACHINE), ("TEST", settings.TEST)) if value),
        "jobs": int(JOBS),
        "cpus": os.cpu_count(),
        "tools": {**tools(), **{run.machine.name: version([run.command[0], "--version"])
                                for run in runs if run.command and "/" in run.command[0]}},
        "machines": {run.machine.name: shlex.join(run.command) for run in runs},
    }


class Progress:
    """One line per event, with the time since the start of the run."""

    def __init__(self, names: list[str]) -> None:
        self.start = time.monotonic()
        self.width = max(map(len, names))

    def __call__(self, name: str, suite: str, what: str) -> None:
        say(f"[{time.monotonic() - self.start:4.0f} s] {name:{self.width}}  {suite}: {what}")


def keep(run: machine.Run, out: Path) -> None:
    """Keeps the consoles of a machine, and the output of each program, below `out`."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for boot in run.boots:
        for path in filter(Path.exists, (boot.console, boot.trace)):
            shutil.copy(path, out.parent / boot.kept(path))
        said = {segment.name.replace("/", "."): segment.output()
                for segment in boot.log.programs.values()}
        if KUNIT in boot.tests:
            said[KUNIT] = boot.log.boot.messages()
        for name, lines in said.items():
            (out / f"{name}{boot.number}.ktap").write_text("\n".join(lines) + "\n")


def unavailable(run: machine.Run, why: str, progress: Progress, out: Path) -> list[Result]:
    """The results of a machine that cannot run here: skips if it is an optional one."""
    item = run.machine
    shutil.rmtree(out, ignore_errors=True)
    boot = Result(item.name, BOOT, "boot", BOOT, SKIP if item.optional else FAIL, reason=why)
    progress(item.name, BOOT, f"{boot.status}: {why}")
    if item.optional:
        return [boot, *(Result(item.name, suite, PROGRAM, suite, SKIP, reason=why)
                        for suite in run.tests)]
    return [boot, *(Result(item.name, suite, PROGRAM, suite, NOT_RUN, cause=boot.name)
                    for suite in run.tests)]


def run_one(item: Machine, tests: list[Test], image: Path, progress: Progress,
            out: Path) -> tuple[machine.Run, list[Result]]:
    """Runs one machine with its tests, and keeps what it said below `out`."""
    mine = [test for test in tests if item.name in test.machines]
    run = machine.Run(item, mine, lambda suite, what: progress(item.name, suite, what))
    try:
        run.boot(image)
    except debian.Unavailable as error:
        return run, unavailable(run, str(error), progress, out / item.name)
    except Exception as error:      # one machine's, and no reason to lose what the others did
        traceback.print_exc()
        return run, unavailable(run, f"{type(error).__name__}: {error}", progress, out / item.name)
    keep(run, out / item.name)
    results = run.results()
    for result in results:
        if any(re.search("call trace", line, re.I) for line in result.log):
            result.log = build.decode(item, result.log)[:judge.MAX_LOG]
    counts = summary.counts([dataclasses.asdict(result) for result in results])
    progress(item.name, "machine", f"{counts.passed} passed, {counts.failed} failed "
             f"({run.seconds:.0f} s)")
    return run, results


def longest_first(machines: dict[str, Machine], tests: list[Test]) -> list[Machine]:
    """By how much all of their suites may take at most: one that is long and late would be waited
    for alone."""
    return sorted(machines.values(), key=lambda item: -sum(
        test.timeout for test in tests if item.name in test.machines))


def run_all(machines: dict[str, Machine], tests: list[Test], also: list[Path],
            out: Path) -> list[tuple[machine.Run, list[Result]]]:
    """Builds one kernel after the other, and runs JOBS machines at a time meanwhile; an interrupt
    ends all of it."""
    progress = Progress(list(machines))
    with concurrent.futures.ThreadPoolExecutor(int(JOBS)) as pool:
        runs: dict[str, concurrent.futures.Future[tuple[machine.Run, list[Result]]]] = {}
        try:
            order = longest_first(machines, tests)
            for kernel in dict.fromkeys(item.kernel for item in order):
                image = build_for(*kernel, also)
                for item in order:
                    if item.kernel == kernel:
                        runs[item.name] = pool.submit(run_one, item, tests, image, progress, out)
            # Not one long wait: Python would not see a signal that comes just before it.
            while concurrent.futures.wait(runs.values(), timeout=0.5).not_done:
                pass
            return [runs[name].result() for name in machines]
        except BaseException:
            machine.STOP.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def build_for(arch: str, config: str, also: list[Path] | None = None) -> Path:
    """Builds what the machines with such a kernel need; returns the boot image."""
    build.selftests(arch, also)
    return build.kernel(arch, config)


def prepare(machines: dict[str, Machine]) -> tree.Base:
    """Lays the trees, and gets what the machines need."""
    base = tree.lay(KERNEL)
    if KERNEL != "patched":
        tree.lay("patched")     # the selftests come from there
    equip(machines)
    return base


def equip(machines: dict[str, Machine]) -> None:
    """Gets what the machines need beside kernels and selftests."""
    for item in machines.values():
        if "{memory}" in item.command:
            build.caches()
        elif "{vfio_user}" in item.command:
            build.device()
        if "{rootfs}" in item.command + item.carries:
            rootfs.make(item.arch)


def repeat(result: Result) -> str:
    """The command that runs just this again."""
    suite = "" if result.suite == BOOT else f" TEST={result.suite}"
    return f"make {settings.TARGET} MACHINE={result.machine}{suite}{settings.variables()}"


def run_matrix(machines: dict[str, Machine], tests: list[Test], out: Path = OUT,
               also: list[Path] | None = None) -> dict[str, Any]:
    """Builds, boots, and writes matrix.json to `out`, where the consoles are kept too; `also` names
    more selftest programs to build."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "matrix.json").unlink(missing_ok=True)   # nobody shall take it for this run's
    base = prepare(machines)
    finished = run_all(machines, tests, also or [], out)
    matrix_json = {
        "environment": environment(base, [run for run, _ in finished]),
        "machines": {run.machine.name: {
            "arch": run.machine.arch, "emulator": run.machine.emulator,
            "proves": run.machine.proves, "proves_not": run.machine.proves_not,
            "seconds": round(run.seconds, 1), "boots": len(run.boots)}
            for run, _ in finished},
        "proofs": {test.suite: {"proves": test.proves, "proves_not": test.proves_not}
                   for test in tests if test.proves},
        "sources": {test.suite: f"{tables.SELFTESTS}/{test.program}.c" for test in tests
                    if tables.is_ours(test)},
        "suites": [BOOT, *dict.fromkeys(test.suite for test in tests)],
        "results": [{**dataclasses.asdict(result), "repeat": repeat(result)}
                    for _, results in finished for result in results],
    }
    (out / "matrix.json").write_text(json.dumps(matrix_json, indent=1) + "\n")
    return matrix_json


def matrix() -> int:
    """Build the kernels, boot the machines, run the tests, and report."""
    machines = run_matrix(*tables.select())["machines"]
    status = report.report()
    if settings.CONFIG == "coverage":
        coverage.report({name: item["arch"] for name, item in machines.items()})
    return status


def list_all() -> None:
    """List machines and tests, as MACHINE= and TEST= would name them."""
    machines, tests = tables.select(every=True)
    width = max(len(name) for name in [*machines, *(test.suite for test in tests)])
    for name, item in machines.items():
        say(f"{name:{width}}  {item.arch}, {item.emulator}: {item.proves}")
    say("")
    for test in tests:
        on = ", ".join(name for name in test.machines if name in machines)
        say(f"{test.suite:{width}}  {'make compat, ' if test.slow else ''}"
            f"at most {test.timeout} s on {on}")


def shell() -> int:
    """Give a shell in one machine, with the test programs in /memtype."""
    machines, tests = tables.select()
    if len(machines) != 1:
        fail(f"make shell needs one machine: MACHINE={'|'.join(tables.all_machines())}")
    item = next(iter(machines.values()))
    if item.emulator != "qemu":
        fail(f"{item.name} runs in {item.emulator}, which has no interactive console")
    prepare(machines)
    boot = machine.Boot(item, [test for test in tests if item.name in test.machines],
                        BUILD / "run" / item.name, lambda suite, what: None)
    boot.prepare(build_for(*item.kernel), debian.busybox(item.arch))
    say(shlex.join(boot.command))
    say("the programs are in /memtype; exit or Ctrl-A X ends the machine")
    with boot.device():
        return subprocess.run(boot.command, check=False).returncode


def clean() -> None:
    """Remove what was built and the results, and nothing else; without BASE=, of all bases."""
    for kernel in TREES:
        tree.refuse_own_work(kernel)
    if SHARED == BUILD:
        for name in [name for name in settings.BASES if (SHARED / name).exists()]:
            output([sys.executable, "-B", __file__, "clean"],
                   env={**os.environ, "BASE": name, "KSRC": ""})
        packages = {name for source in settings.BASES.values()
                    for name in (source.config, *source.libraries)}
        qemus = (f"qemu{major}" for major in debian.SUITES)
        for name in ("busybox-static", debian.LIBSSL, "qemu", *qemus, "rootfs", *packages):
            shutil.rmtree(SHARED / name, ignore_errors=True)
    configs = {*settings.CONFIGS, *(item.config for item in tables.all_machines().values())}
    objects = ["-".join(filter(None, (kernel, config))) for kernel in TREES for config in configs]
    for name in [*objects, "linux", "linux-base", "source", "selftests", "check", "deb", "bisect",
                 "run"]:
        shutil.rmtree(BUILD / name, ignore_errors=True)
    # README.md keeps the results of KERNEL=base in OUT/base.
    for name in [*tables.all_machines(), "base", "mutate", "bench", "compat", "vmm", "ci", "deb",
                 "series", "bisect"]:
        shutil.rmtree(OUT / name, ignore_errors=True)
    for path in [*(OUT / name for name in ("matrix.json", "junit.xml", "report.html",
                                           "mutate.json", "bench.json", "compat.json",
                                           "coverage.txt")),
                 *(BUILD / name for name in ("kvm-memtype", "memtype-example", "dma-cache-lines",
                                             "lock")),
                 build.DEVICE, build.ENGINE, build.PLUGIN,
                 *OUT.glob("memtype-*.mbox"), *OUT.glob("memtype-selftests-*.tar.gz")]:
        path.unlink(missing_ok=True)
    for directory in (BUILD, OUT):
        if directory.exists() and not any(directory.iterdir()):
            directory.rmdir()


if __name__ == "__main__":
    settings.main({"matrix": matrix, "list": list_all, "shell": shell, "report": report.report,
                   "clean": clean}, __doc__, reads=("list", "report"))
