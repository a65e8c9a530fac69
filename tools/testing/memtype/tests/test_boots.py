# SPDX-License-Identifier: GPL-2.0-only
"""Real boots that go wrong: each way must turn the run red with its own status.

selftests/memtype/misbehave does the damage, on the fastest machine of each architecture. Run as a
program (PYTHONPATH=. tests/test_boots.py), this file records logs/ for test_judge.py anew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import build
import machine
import tables
import tree
from results import BOOT, CRASH, FAIL, GOOD, HANG, KUNIT, PASS, PROGRAM, SKIP, TIMEOUT, Result
from settings import BUILD, HERE
from tables import Test

PROGRAMS = [Path("memtype/misbehave")]


def ways(name: str, *args: str, timeout: int = 30) -> list[Test]:
    """One suite per way to misbehave."""
    return [Test(f"memtype/{arg}", [name], timeout, "memtype/misbehave", [arg]) for arg in args]


WAYS = ("fail", "skip", "skip-all", "zero", "truncated", "exit-code", "killed", "warn", "flood",
        "noise", "pass")


def run_machine(name: str, tests: list[Test]) -> machine.Run:
    item = tables.all_machines()[name]
    build.selftests(item.arch, PROGRAMS)
    run = machine.Run(item, tests, lambda suite, what: None)
    run.boot(build.kernel(item.arch))
    return run


def boot(name: str, tests: list[Test]) -> dict[tuple[str, str], Result]:
    """Boots the machine; the results by suite and test."""
    return {(result.suite, result.test): result for result in run_machine(name, tests).results()}


class Boots(unittest.TestCase):
    def status(self, results: dict[tuple[str, str], Result], way: str, test: str) -> str:
        suite = way if way == BOOT else f"memtype/{way}"
        self.assertIn((suite, test), results)
        return results[suite, test].status

    def check_ways(self, name: str) -> None:
        """All ways that leave the machine alive, in one boot."""
        results = boot(name, ways(name, *WAYS))
        for way, test, status in (
                ("fail", "good", PASS), ("fail", "broken", FAIL),
                ("skip", "needs another machine", SKIP),
                ("skip-all", PROGRAM, SKIP), ("zero", PROGRAM, FAIL),
                ("truncated", "(unnamed)", CRASH), ("exit-code", PROGRAM, FAIL),
                ("killed", PROGRAM, CRASH), ("warn", "kernel log", FAIL), ("warn", "good", PASS),
                ("flood", "line 199", PASS), ("pass", "good", PASS), ("pass", "a value", FAIL),
                (BOOT, "power-off", PASS)):
            with self.subTest(way=way, test=test):
                self.assertEqual(self.status(results, way, test), status)
        self.assertNotIn(("memtype/flood", PROGRAM), results)
        self.assertIn("WARNING: CPU", results["memtype/warn", "kernel log"].reason)
        self.assertEqual(results["memtype/skip-all", PROGRAM].reason,
                         "nothing to test on this machine")

    def test_ways_x86(self) -> None:
        self.check_ways("x86-amd")

    def test_ways_arm64(self) -> None:
        self.check_ways("arm64-nofwb")

    def check_end(self, way: str, status: str, timeout: int = 30) -> Result:
        """What ends the machine is the one failure of the run, and everything else runs."""
        results = boot("x86-amd", ways("x86-amd", way, "pass", timeout=timeout))
        del results["memtype/pass", "a value"]      # which nobody expects
        bad = [name for name, result in results.items() if result.status not in GOOD]
        self.assertEqual(bad, [(f"memtype/{way}", PROGRAM)])
        self.assertEqual(self.status(results, way, PROGRAM), status)
        self.assertEqual(self.status(results, way, "good"), PASS)
        self.assertEqual(self.status(results, "pass", "good"), PASS)
        # The last boot was for what ends the machine, and did not come to its end either.
        self.assertEqual(self.status(results, BOOT, "boot"), PASS)
        self.assertRegex(results[f"memtype/{way}", PROGRAM].reason, rf"\(tried again: {status}\)$")
        return results[f"memtype/{way}", PROGRAM]

    def test_panic(self) -> None:
        result = self.check_end("panic", CRASH)
        self.assertIn("Kernel panic", result.reason)
        self.assertIn("lkdtm_PANIC", "\n".join(result.log))
        self.assertRegex("\n".join(build.decode(tables.all_machines()["x86-amd"], result.log)),
                         r"lkdtm_PANIC.*\(.*bugs\.c:\d+\)")

    def test_hang(self) -> None:
        result = self.check_end("hang", HANG, timeout=100000)
        self.assertIn("hangs: nothing on the console", result.reason)

    def test_timeout(self) -> None:
        self.assertIn("s of CPU time, and may use", self.check_end("spin", TIMEOUT, 5).reason)


class Interrupt(unittest.TestCase):
    """Ctrl-C must leave no emulator behind, whichever is running."""

    def emulators(self, name: str) -> list[str]:
        """Command lines of the processes that run this machine."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = path.read_bytes().decode(errors="replace")
            except OSError:
                continue    # it has ended meanwhile
            if str(BUILD / "run" / name) in command:
                found.append(command)
        return found

    def check(self, name: str, test: str, how: signal.Signals) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        runner = subprocess.Popen(
            [sys.executable, "-B", HERE / "matrix.py", "matrix"], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "MACHINE": name, "TEST": test, "OUT": scratch.name})
        assert runner.stdout
        with runner.stdout:
            self.assertTrue(any("boot: started" in line for line in runner.stdout))
            while not self.emulators(name):
                self.assertIsNone(runner.poll(), "the emulator does not start")
                time.sleep(0.1)
            runner.send_signal(how)
            self.assertEqual(runner.wait(), 130)
        self.assertEqual(self.emulators(name), [])

    def test_qemu(self) -> None:
        self.check("arm64-nofwb", "kvm/dirty_log_test", signal.SIGHUP)

    def test_bochs(self) -> None:
        self.check("x86-intel", "kvm/memtype_host_test", signal.SIGINT)


def record() -> None:
    """Writes logs/: what the console of the first boot had from the start of KUnit on."""
    tree.lay()
    name = "x86-amd"
    kunit = Test(KUNIT, [name], 30)
    for log, tests in (("ways", [kunit, *ways(name, *WAYS)]),
                       ("panic", ways(name, "panic", "pass")),
                       ("hang", ways(name, "hang", "pass"))):
        boots = run_machine(name, tests).boots
        lines = boots[0].console.read_text(errors="replace").splitlines()
        start = next(number for number, line in enumerate(lines)
                     if "KTAP version" in line or "memtype> boot" in line)
        text = "".join(f"{line.rstrip()}\n" for line in lines[start:])
        (HERE / "tests/logs" / f"{log}.log").write_text(text)


if __name__ == "__main__":
    record()
