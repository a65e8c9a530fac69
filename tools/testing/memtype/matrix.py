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
import time
from pathlib import Path
from typing import Any

import build
import console
import data
import machine
import report
import rootfs
import settings
import tree
from console import Result
from settings import BUILD, JOBS, KERNEL, OUT, REPO, TREES, fail, output, say

TOOLS = {
    "gcc": ["gcc", "--version"],
    "aarch64 gcc": ["aarch64-linux-gnu-gcc", "--version"],
    "qemu (x86)": ["qemu-system-x86_64", "--version"],
    "qemu (arm64)": ["qemu-system-aarch64", "--version"],
    "bochs": ["dpkg-query", "-W", "-f", "${Version}", "bochs"],
    "ccache": ["ccache", "--version"],
    "python": ["python3", "--version"],
}


def version(command: list[str]) -> str:
    try:
        done = subprocess.run(command, text=True, capture_output=True, check=False)
    except OSError:
        return "not found"
    return (done.stdout or done.stderr).strip().split("\n", 1)[0]


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
        "tools": {name: version(command) for name, command in {
            **TOOLS, **{run.machine.name: [run.command[0], "--version"] for run in runs
                        if run.command and "/" in run.command[0]}}.items()},
        "machines": {run.machine.name: shlex.join(run.command) for run in runs},
    }


class Progress:
    """One line per event, with the time since the start of the run."""

    def __init__(self, names: list[str]) -> None:
        self.start = time.monotonic()
        self.width = max(map(len, names))

    def __call__(self, name: str, suite: str, what: str) -> None:
        say(f"[{time.monotonic() - self.start:4.0f} s] {name:{self.width}}  {suite}: {what}")


def judge(run: machine.Run) -> tuple[console.Log, list[Result]]:
    """What the console of a machine that has ended comes to."""
    log = console.cut(run.console.read_text(encoding="utf-8", errors="replace").splitlines())
    trace = run.trace.read_text(errors="replace") if run.machine.emulator == "bochs" else None
    judged = console.Judge(run.machine.name, console.kunit_parser(TREES["patched"]), log,
                           run.ended, run.overtime, run.seconds, trace)
    return log, judged.judge(run.tests.values())


def run_one(item: data.Machine, tests: list[console.Test], image: Path,
            progress: Progress, out: Path) -> tuple[machine.Run, list[Result]]:
    """Boots one machine with its tests, and keeps its console and KTAP below `out`."""
    mine = [test for test in tests if item.name in test.machines]
    run = machine.Run(item, mine, lambda suite, what: progress(item.name, suite, what))
    keep = out / item.name
    shutil.rmtree(keep, ignore_errors=True)
    try:
        run.prepare(image)
    except build.Unavailable as error:
        progress(item.name, "boot", f"skip: {error}")
        return run, [Result(item.name, suite, console.PROGRAM, suite, console.SKIP,
                            reason=str(error)) for suite in (console.BOOT, *run.tests)]
    progress(item.name, "boot", "started")
    run.boot()

    log, results = judge(run)
    keep.mkdir(parents=True)
    shutil.copy(run.console, keep)
    if item.emulator == "bochs":
        shutil.copy(run.trace, keep)
    for segment in log.programs.values():
        name = segment.name.replace("/", ".")
        (keep / f"{name}.ktap").write_text("\n".join(segment.output()) + "\n")
    if console.KUNIT in run.tests:
        (keep / "kunit.ktap").write_text("\n".join(log.boot.messages()) + "\n")
    for result in results:
        if any(re.search("call trace", line, re.I) for line in result.log):
            result.log = build.decode(item.arch, result.log)[:console.MAX_LOG]
    return run, results


def run_all(machines: dict[str, data.Machine], tests: list[console.Test],
            images: dict[str, Path], out: Path) -> list[tuple[machine.Run, list[Result]]]:
    """Runs JOBS machines at a time; an interrupt ends them all."""
    progress = Progress(list(machines))
    with concurrent.futures.ThreadPoolExecutor(int(JOBS)) as pool:
        # The first machine may already run while the others are handed in.
        try:
            runs = [pool.submit(run_one, item, tests, images[item.arch], progress, out)
                    for item in machines.values()]
            # Not one long wait: Python would not see a signal that comes just before it.
            while concurrent.futures.wait(runs, timeout=0.5).not_done:
                pass
            return [run.result() for run in runs]
        except BaseException:
            machine.STOP.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def prepare(machines: dict[str, data.Machine],
            also: list[Path] | None = None) -> tuple[tree.Base, dict[str, Path]]:
    """Lays the trees and builds what the machines need, and the selftest programs `also`; the
    boot images by architecture."""
    base = tree.lay(KERNEL)
    if KERNEL != "patched":
        tree.lay("patched")     # the selftests come from there
    for item in machines.values():
        if "{rootfs}" in item.command:
            rootfs.make(item.arch)
    images = {}
    for arch in sorted({item.arch for item in machines.values()}):
        images[arch] = build.kernel(arch)
        build.selftests(arch, also)
    return base, images


def repeat(result: Result) -> str:
    """The command that runs just this again."""
    suite = "" if result.suite == console.BOOT else f" TEST={result.suite}"
    return f"make {settings.TARGET} MACHINE={result.machine}{suite}{settings.variables()}"


def run_matrix(machines: dict[str, data.Machine], tests: list[console.Test], out: Path = OUT,
               also: list[Path] | None = None) -> dict[str, Any]:
    """Builds, boots, and writes matrix.json to `out`, where the consoles are kept too."""
    out.mkdir(parents=True, exist_ok=True)
    base, images = prepare(machines, also)
    finished = run_all(machines, tests, images, out)
    matrix_json = {
        "environment": environment(base, [run for run, _ in finished]),
        "machines": {run.machine.name: {
            "arch": run.machine.arch, "emulator": run.machine.emulator,
            "proves": run.machine.proves, "proves_not": run.machine.proves_not}
            for run, _ in finished},
        "proofs": {test.suite: {"proves": test.proves, "proves_not": test.proves_not}
                   for test in tests if test.proves},
        "suites": [console.BOOT] + [test.suite for test in tests],
        "results": [{**dataclasses.asdict(result), "repeat": repeat(result)}
                    for _, results in finished for result in results],
    }
    (out / "matrix.json").write_text(json.dumps(matrix_json, indent=1) + "\n")
    return matrix_json


def matrix() -> int:
    run_matrix(*data.select())
    return report.report()


def list_all() -> None:
    """Machines and tests, as MACHINE= and TEST= would name them."""
    machines, tests = data.select(every=True)
    width = max(len(name) for name in [*machines, *(test.suite for test in tests)])
    for name, item in machines.items():
        say(f"{name:{width}}  {item.arch}, {item.emulator}: {item.proves}")
    say("")
    for test in tests:
        on = ", ".join(name for name in test.machines if name in machines)
        limit = "while booting" if test.suite == console.KUNIT else f"at most {test.timeout} s"
        say(f"{test.suite:{width}}  {limit} on {on}")


def shell() -> int:
    """An interactive shell in one machine, with the test programs in /memtype."""
    machines, tests = data.select()
    if len(machines) != 1:
        fail(f"make shell needs one machine: MACHINE={'|'.join(data.all_machines())}")
    item = next(iter(machines.values()))
    if item.emulator != "qemu":
        fail(f"{item.name} runs in {item.emulator}, which has no interactive console")
    _, images = prepare(machines)
    run = machine.Run(item, [test for test in tests if item.name in test.machines],
                      lambda suite, what: None)
    run.prepare(images[item.arch], build.busybox(item.arch))
    say(shlex.join(run.command))
    say("the programs are in /memtype; exit or Ctrl-A X ends the machine")
    return subprocess.run(run.command, check=False).returncode


def clean() -> None:
    """Removes what was built and the results, and nothing else."""
    for kernel in TREES:
        tree.refuse_own_work(kernel)
    objects = ["-".join(filter(None, (kernel, config)))
               for kernel in TREES for config in settings.CONFIGS]
    for name in [*objects, "linux", "linux-base", "selftests", "check", "run", "busybox",
                 "qemu10", "rootfs"]:
        shutil.rmtree(BUILD / name, ignore_errors=True)
    for name in [*data.all_machines(), "mutate", "bench", "compat", "vmm"]:
        shutil.rmtree(OUT / name, ignore_errors=True)
    for path in [*(OUT / name for name in ("matrix.json", "junit.xml", "report.html",
                                           "mutate.json", "bench.json", "compat.json")),
                 BUILD / "kvm-memtype", BUILD / "memtype-example", *OUT.glob("memtype-*.mbox"),
                 *OUT.glob("memtype-selftests-*.tar.gz")]:
        path.unlink(missing_ok=True)
    for directory in (BUILD, OUT):
        if directory.exists() and not any(directory.iterdir()):
            directory.rmdir()


if __name__ == "__main__":
    settings.main({"matrix": matrix, "list": list_all, "shell": shell, "report": report.report,
                   "clean": clean})
