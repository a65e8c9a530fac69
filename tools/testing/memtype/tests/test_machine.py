# SPDX-License-Identifier: GPL-2.0-only
"""Machines whose emulator is a script: what gets stuck, what is only slow, and what runs again.

The script reads the suites of its machine and prints what init.c would. The name of a suite says
how it behaves.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import build
import emulator
import machine
import summary
from results import BOOT, CRASH, FAIL, GOOD, HANG, KUNIT, NOT_RUN, PASS, TIMEOUT, Result
from tables import Machine, Test

STAND_IN = r"""
import fcntl, os, socket, struct, sys, time
console = open(sys.argv[sys.argv.index("-serial") + 1].removeprefix("file:"), "a", buffering=1)
suites = open("suites").read().split()
clock = 0.0

def say(text):
    print(f"[{clock:12.6f}] {text}", file=console)

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

if sys.argv[1] == "device":
    device = socket.socket(socket.AF_UNIX)
    device.connect(sys.argv[2])
    assert device.recv(1) == b"x"
    if sys.argv[3].startswith("/proc/"):
        memory = open(sys.argv[3], "rb")
        assert memory.read(1) == b"y" and os.fstat(memory.fileno()).st_size == 4 << 30
say("Linux version 1.0")
if sys.argv[1] == "no-init":
    time.sleep(1000)
if sys.argv[1] == "draws":
    # As Bochs does, without a reader of its own: far more than a line discipline holds.
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, 0x40045431, struct.pack("i", 0))    # TIOCSPTLCK
    for _ in range(200):
        os.write(master, b"x" * 1000 + b"\n")
    os.close(master)
if "kunit" in suites:
    say("KTAP version 1")
    say("1..1")
    say("ok 1 fine")
say("memtype> boot")
for suite in suites:
    if suite == "kunit":
        continue
    say(f"memtype> start {suite}")
    for line in ("TAP version 13", "1..1"):
        say(f"memtype| {line}")
    how = suite.split("/")[1]
    if how == "panic" or how == "sometimes" and not os.path.exists("../before"):
        open("../before", "w").close()
        say("Kernel panic - not syncing: here")
        sys.exit(0)
    if how == "hang":
        time.sleep(1000)
    if how == "spin":
        burn(1000)
    if how == "slow":
        burn(4)
    if how == "guest-waits":
        # The clock of such a guest goes on at once when it has nothing to do.
        for _ in range(1000):
            clock += 10
            say("memtype> alive")
    if how == "dies":
        sys.exit(3)
    say("memtype| " + ("not ok 1 bad" if how == "fails" else "ok 1 good"))
    say(f"memtype> end {suite} exit={int(how == 'fails')}")
say("memtype> done")
"""


class StandIn(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        (self.top / "stand-in.py").write_text(STAND_IN)
        for where, name, value in ((machine, "BUILD", self.top), (emulator, "SILENCE", 2.0),
                                   (emulator, "LOOKS", 5), (build, "initramfs", self.suites)):
            self.enterContext(mock.patch.object(where, name, value))
        self.said: list[tuple[str, str]] = []

    def suites(self, _arch: str, tests: list[Test], target: Path, *_: object) -> None:
        (target.parent / "suites").write_text(" ".join(test.suite for test in tests))

    def run_machine(self, *ways: str, how: str = "boots", command: str = "",
                    timeout: int = 2) -> list[Result]:
        item = Machine("m", "x86_64", "qemu", f"{command} {sys.executable} "
                       f"{self.top / 'stand-in.py'} {how}", "", 0.01, "p", "n", family=["m"])
        tests = [Test(way if way == KUNIT else f"a/{way}", ["m"], timeout) for way in ways]
        self.run_ = machine.Run(item, tests, lambda suite, what: self.said.append((suite, what)))
        self.run_.boot(self.top / "image")
        return self.run_.results()

    def bad(self, results: list[Result]) -> list[tuple[str, str]]:
        return [(result.suite, result.status) for result in results if result.status not in GOOD]

    def test_pass(self) -> None:
        results = self.run_machine(KUNIT, "passes", "other")
        self.assertEqual({result.status for result in results}, {PASS})
        self.assertEqual({result.suite for result in results}, {BOOT, KUNIT, "a/passes", "a/other"})
        self.assertEqual(len(self.run_.boots), 1)

    def test_progress(self) -> None:
        """A line says how a suite went as soon as it has ended."""
        self.run_machine("passes", "fails")
        lines = dict(self.said)
        self.assertRegex(lines["a/passes"], r"^1 passed \(\d+ s, CPU \d+ s\)$")
        self.assertRegex(lines["a/fails"], r"^0 passed, 1 failed \(\d+ s, CPU \d+ s\)$")

    def device(self, before: str = "") -> Path:
        """A program for a device, which does something before it answers."""
        program = self.top / "device"
        program.write_text(f"#!{sys.executable}\nimport os, pathlib, socket, sys, time\n"
                           f"pathlib.Path('{self.top}/pid').write_text(str(os.getpid()))\n{before}"
                           "socket.socket(fileno=0).accept()[0].send(b'x')\ntime.sleep(1000)\n")
        program.chmod(0o755)
        return program

    def memories(self) -> int:
        """How many of the files that an emulator shares are open."""
        names = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum(name.startswith("/memfd:memory") for name in names)

    def test_memory(self) -> None:
        """Emulator and device share a file, which is gone afterwards."""
        program = self.device("open(sys.argv[1], 'r+b').write(b'y')\n")
        # Tests of other things prepare machines that they do not boot.
        before = self.memories()
        with mock.patch.object(build, "ENGINE", program):
            self.assertEqual(self.bad(self.run_machine(
                "passes", how="device {vfio_user} {memory} {plugin}")), [])
        self.assertEqual(self.memories(), before)

    def test_device(self) -> None:
        """The process that is a device is there before the machine, and ends with it."""
        program = self.device()
        with mock.patch.object(build, "DEVICE", program):
            self.assertEqual(self.bad(self.run_machine("passes", how="device {vfio_user}")), [])
        with self.assertRaises(ProcessLookupError):
            os.kill(int((self.top / "pid").read_text()), 0)

    def test_terminal_that_nobody_else_reads(self) -> None:
        """R1: the emulator draws on a terminal that it opened itself."""
        with mock.patch.object(emulator, "SILENCE", 600.0):     # the runner reads now and then only
            self.assertEqual(self.bad(self.run_machine("passes", how="draws")), [])
        with mock.patch.object(emulator.Emulator, "drain"):
            self.assertEqual(self.bad(self.run_machine("passes", how="draws"))[0], (BOOT, HANG))

    def test_the_rest_runs_after_an_end(self) -> None:
        """Whatever ends the machine is one failure, and everything else runs."""
        for way, status in (("panic", CRASH), ("dies", CRASH), ("hang", HANG), ("spin", TIMEOUT)):
            with self.subTest(way):
                results = self.run_machine("first", way, "last", timeout=1)
                self.assertEqual(self.bad(results), [(f"a/{way}", status)])
                self.assertLessEqual({"a/first", "a/last"}, {
                    result.suite for result in results if result.status == PASS})
                # The last boot was for the one that was tried again.
                self.assertEqual([list(boot.tests) for boot in self.run_.boots], [
                    ["a/first", f"a/{way}", "a/last"], ["a/last"], [f"a/{way}"]])
                reason, = [result.reason for result in results if result.status == status]
                self.assertIn(f"(tried again: {status})", reason)

    def test_what_passes_when_tried_again(self) -> None:
        """It stays a failure, but says so, and what it has to say is there."""
        results = self.run_machine("first", "sometimes")
        self.assertEqual(self.bad(results), [("a/sometimes", CRASH)])
        self.assertTrue(results[-2].reason.endswith("(tried again: it ran to its end)"))
        self.assertEqual((results[-1].test, results[-1].status), ("good", PASS))

    def test_what_failed_at_first_is_kept(self) -> None:
        """A second try that passes hides nothing of the first."""
        def of(test: str, status: str) -> Result:
            return Result("m", "s", test, "s", status)

        first = [of("kernel log", FAIL), of("t1", FAIL), of("t2", PASS), of("program", HANG)]
        found = machine.merge([first, [of("t1", PASS), of("t2", PASS), of("t3", PASS)]])
        self.assertEqual([(result.test, result.status) for result in found], [
            ("kernel log", FAIL), ("t1", FAIL), ("program", HANG), ("t2", PASS), ("t3", PASS)])

    def test_machine_that_does_not_boot(self) -> None:
        """It is tried twice; what did not run names it as the cause, and is no failure."""
        results = self.run_machine("first", "last", how="no-init")
        self.assertEqual(self.bad(results)[-2:], [("a/first", NOT_RUN), ("a/last", NOT_RUN)])
        causes = [result for result in results if result.status == HANG]
        self.assertEqual({result.cause for result in results if result.status == NOT_RUN},
                         {causes[0].name})
        self.assertEqual(len(self.run_.boots), 2)
        counts = summary.counts([asdict(result) for result in results])
        self.assertEqual((counts.failed, counts.not_run), (len(causes), 2))

    def test_slow_is_no_hang(self) -> None:
        """An emulator that works and says nothing, alone and on a CPU that others want, too."""
        others: list[subprocess.Popen[bytes]] = []
        for busy in (0, 1, 2):
            others += [subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c",
                                         "while True: pass"]) for _ in range(busy)]
            try:
                results = self.run_machine("slow", command="taskset -c 0", timeout=100)
            finally:
                for other in others:
                    other.kill()
                    other.wait()
            self.assertEqual(self.bad(results), [])

    def test_limit_of_the_guest_clock(self) -> None:
        """A guest that waits for ever, whose clock then runs ahead: neither a hang nor busy."""
        with mock.patch.object(Machine, "counts", True):
            results = self.run_machine("guest-waits", timeout=60)
        self.assertEqual(self.bad(results)[0], ("a/guest-waits", TIMEOUT))
        self.assertRegex(self.run_.boots[0].end.reason if self.run_.boots[0].end else "",
                         r"it used \d+ s of the guest, and may use 60 s")
        self.assertEqual(self.bad(self.run_machine("guest-waits", timeout=60)), [])


class Limits(unittest.TestCase):
    """What a limit is, on a machine that is as fast as that of the tables, and on slower ones."""

    def boot(self, cpu: float, counts: bool = False) -> machine.Boot:
        """A boot that took so much CPU time, where it should take 2 s."""
        item = mock.Mock(boot=2.0, counts=counts, emulator="qemu")
        item.name = "m"
        boot = machine.Boot(item, [Test("a/b", ["m"], 10)], Path("/nowhere"), lambda *_: None)
        boot.emulator = mock.Mock()
        boot.emulator.cpu.return_value, boot.emulator.waited.return_value = 0.0, {}
        boot.pulse = emulator.Pulse(boot.emulator)
        boot.enter(BOOT)
        boot.emulator.cpu.return_value = cpu
        boot.see("[    1.000000] memtype> boot")
        boot.see("[    1.000000] memtype> start a/b")
        return boot

    def used(self, boot: machine.Boot, cpu: float) -> str:
        boot.emulator.cpu.return_value = boot.since_cpu + cpu  # type: ignore[attr-defined]
        return boot.over_limit()

    def test_slow_machine_has_more(self) -> None:
        for cpu, limit in ((1.0, 10), (2.0, 10), (6.0, 30)):
            boot = self.boot(cpu)
            self.assertEqual(self.used(boot, limit - 0.1), "")
            self.assertIn(f"may use {limit} s", self.used(boot, limit + 0.1))

    def test_what_has_to_wait_uses_nothing(self) -> None:
        """Real time does not count."""
        boot = self.boot(2.0)
        with mock.patch.object(time, "monotonic", return_value=time.monotonic() + 1e6):
            self.assertEqual(self.used(boot, 1), "")

    def test_guest_clock(self) -> None:
        boot = self.boot(6.0, counts=True)
        boot.see("[   11.000000] memtype> alive")
        self.assertEqual(self.used(boot, 1), "")
        boot.see("[   11.100000] memtype> alive")
        self.assertIn("10 s of the guest", self.used(boot, 1))
        # An instrumented kernel executes more instructions.
        with mock.patch.object(machine, "CONFIG", "debug"):
            self.assertEqual(self.used(boot, 1), "")
        # A guest whose clock stands still is not safe for that.
        self.assertEqual(self.used(self.boot(6.0, counts=True), 299), "")
        self.assertIn("CPU time", self.used(self.boot(6.0, counts=True), 301))

    def test_boot(self) -> None:
        boot = self.boot(2.0)
        boot.see("[    2.000000] memtype> end a/b exit=0")
        self.assertEqual(self.used(boot, 2 * machine.BOOTS - 1), "")
        self.assertTrue(self.used(boot, 2 * machine.BOOTS + 1))

    def test_lost_start_mark(self) -> None:
        """The console can lose messages; that is reported, and no reason to stop."""
        boot = self.boot(2.0)
        boot.see("[    2.000000] memtype> end a/b exit=0")
        boot.see("[    2.000000] memtype> end a/c exit=0")
        self.assertEqual(boot.current, BOOT)

    def hangs(self, boot: machine.Boot, slowness: float = 1.0) -> bool:
        """Whether it does after a silence in which one has looked often."""
        boot.pulse.looks = emulator.LOOKS
        with mock.patch.object(time, "monotonic",
                               return_value=boot.pulse.since + emulator.SILENCE + 1):
            return boot.pulse.stopped(slowness)

    def test_waits_for_a_cpu(self) -> None:
        """One that sleeps waits a little each time that it wakes up; a busy one all the time."""
        for cpu, waited, slowness, hangs in (
                (2.0, 0.0, 1.0, True), (2.0, 8.0, 1.0, True), (2.0, 23.0, 1.0, False),
                (9.0, 8.0, 1.0, False), (12.0, 0.0, 10.0, True), (12.0, 14.0, 10.0, False)):
            boot = self.boot(0.0)
            boot.emulator.waits_for_disk.return_value = False  # type: ignore[attr-defined]
            boot.emulator.cpu.return_value = cpu  # type: ignore[attr-defined]
            # As long as one thread waits, others may, too; that makes no more of it.
            boot.emulator.waited.return_value = {  # type: ignore[attr-defined]
                "1": waited, "2": waited / 2}
            self.assertEqual(self.hangs(boot, slowness), hangs)

    def test_waits_for_disk(self) -> None:
        """That is no hang."""
        boot = self.boot(2.0)
        boot.emulator.waits_for_disk.return_value = True  # type: ignore[attr-defined]
        self.assertFalse(self.hangs(boot))
        boot.emulator.waits_for_disk.return_value = False  # type: ignore[attr-defined]
        self.assertTrue(self.hangs(boot))

    def test_stopped_runner_sees_no_hang(self) -> None:
        """After it was suspended for a day, it has looked once."""
        boot = self.boot(2.0)
        with mock.patch.object(time, "monotonic", return_value=time.monotonic() + 86400):
            self.assertFalse(boot.pulse.stopped())


if __name__ == "__main__":
    unittest.main()
