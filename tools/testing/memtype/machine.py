# SPDX-License-Identifier: GPL-2.0-only
"""One emulated machine: boots with its tests, and boots again for what an end too early left.

A limit is a number of seconds on the machine that the tables were written on. Where the guest's
clock counts instructions (Bochs, QEMU's -icount), these are seconds of the guest. Elsewhere they
are seconds of the emulator's CPU time, and more on a slower machine: as many times more as its boot
needs, compared with `boot` in machines.toml. So neither a slow machine nor a busy one meets a
limit. What does nothing at all is a hang (emulator.py), and found whatever the limit.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import build
import debian
import qemu
import rootfs
import walker
from console import Log
from emulator import Emulator, Pulse, device
from judge import Judge, kunit_parser
from results import (BOOT, CRASH, GOOD, HANG, KUNIT, NOT_RUN, PASS, PROGRAM, TIMEOUT, WORDS, End,
                     Result)
from settings import ARCHES, BUILD, CONFIG, TREES
from tables import Machine, Test

# Every test line reaches the console, whatever the program prints at what speed.
# An oops leaves locks behind: what comes after it says nothing, and is often a hang.
CMDLINE = "printk.devkmsg=on printk.time=1 ignore_loglevel log_buf_len=4M panic=-1 oops=panic"
# A clock that goes on while the emulator waits for a CPU makes these watchdogs find a busy host.
NO_WATCHDOGS = ("nosoftlockup rcupdate.rcu_cpu_stall_suppress=1 "
                "sysctl.kernel.hung_task_timeout_secs=0")
BOCHS_POWER_OFF = "ACPI control: soft power off"
POLL = 0.1
# How much longer than `boot` a machine may take to boot, to go on, and to power off.
BOOTS = 40
# Where the guest's clock counts, CPU time is only the last resort, and may be so much more.
BACKSTOP = 10
# How many times the instructions a kernel of CONFIG= may execute. With "debug", x86-amd-count boots
# in 10 times as many, and memtype_fuzz takes more than 13 times as many (2026-11-27).
INSTRUMENTED = {"debug": 20}
# How often a suite may end its machine.
TRIES = 2
# Of a machine with caches: its RAM, and what cache/model.h has beside that, four times 1 GiB.
MEMORY = 4 << 30
# Set when the user wants the whole run to end.
STOP = threading.Event()

Progress = Callable[[str, str], None]


def kernel_cmdline(machine: Machine, suites: Collection[str]) -> str:
    """The kernel command line of a machine that runs these suites."""
    cmdline = f"{ARCHES[machine.arch].console} {machine.cmdline} {CMDLINE}"
    if not machine.counts:
        cmdline += f" {NO_WATCHDOGS}"
    # By itself it runs only in older kernels, which do not know the second.
    return cmdline + (" kunit.autorun=1" if KUNIT in suites else " kunit.enable=0")


class Boot:
    """One boot of a machine, with the suites that it runs."""

    def __init__(self, machine: Machine, tests: list[Test], directory: Path, progress: Progress,
                 slowness: float = 1.0, number: str = "") -> None:
        """`slowness` is how much slower than the tables' machine this one is, as far as known;
        `number` is in the names of the files of all boots but the first."""
        self.number = number
        self.machine = machine
        self.tests = {test.suite: test for test in tests}
        self.directory = directory
        self.progress = progress
        self.slowness = slowness
        self.console = directory / "console.log"
        self.trace = directory / "trace.txt"        # Bochs only
        self.socket = directory / "device"          # of the process that is a device
        self.memory = -1                            # a file that the emulator shares with it
        self.command: list[str] = []
        self.log = Log()
        self.seconds: dict[str, float] = {}
        self.end: End | None = None     # if it did not end as it should
        self.current = BOOT

    def prepare(self, image: Path, shell: Path | None = None) -> None:
        machine = self.machine
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        places: dict[str, str | Path] = {"run": self.directory, "cpu": machine.cpu}
        if machine.emulator == "bochs":
            debian.check_bochs()
        for major in debian.SUITES:
            if f"{{qemu{major}}}" in machine.command:
                places[f"qemu{major}"] = debian.qemu(machine.arch, major)
        if "{vfio_user}" in machine.command:
            places["vfio_user"] = self.socket
        if "{memory}" in machine.command:
            self.memory = os.memfd_create("memory")
            os.truncate(self.memory, MEMORY)
            places["memory"], places["plugin"] = self.memory_path(), build.PLUGIN
        named = machine.command + machine.carries
        if "{rootfs}" in named:
            places["rootfs"] = rootfs.directory(machine.arch)
        if "{rootfs11}" in named:
            places["rootfs11"] = rootfs.qemu11(machine.arch)
        if "{asks}" in named:
            places["asks"] = qemu.directory(machine.arch)
        self.command = shlex.split(machine.command.format(**places))
        carried = rootfs.carried(machine.carries.format(**places).split(), machine.arch)
        initrd = self.directory / "initrd"
        build.initramfs(machine, list(self.tests.values()), initrd, shell, self.guest(image),
                        carried)
        cmdline = kernel_cmdline(machine, self.tests)
        if machine.emulator == "bochs":
            build.iso(image, initrd, cmdline, self.directory / "boot.iso")
            (self.directory / "bochsrc").write_text(
                machine.bochsrc.format(run=self.directory, cpu=machine.cpu))
            (self.directory / "bochs-commands").write_text(walker.COMMANDS)
            self.trace.touch()
        else:
            self.command += ["-kernel", str(image), "-initrd", str(initrd), "-append", cmdline]
            self.command += ["-nographic"] if shell else [
                "-display", "none", "-monitor", "none", "-serial", f"file:{self.console}"]
        self.console.touch()

    def guest(self, image: Path) -> dict[str, Path]:
        """What a VMM in the machine boots: the same kernel, and an initramfs with what the tests
        run in their guests.

        It gives a shell to type into where the VMM is QEMU; else it runs these programs, one after
        the other.
        """
        programs = sorted({program for test in self.tests.values() for program in test.guest})
        if not programs:
            return {}
        initrd = self.directory / "guest/initrd"
        build.initramfs(self.machine, [Test(program, [], program=program) for program in programs],
                        initrd, debian.busybox(self.machine.arch) if self.machine.has_qemu else
                        None)
        return {"kernel": image, "initrd": initrd}

    def run(self) -> None:
        """Runs the machine to its end."""
        with self.device():
            self.emulator = Emulator(self.command, self.directory)
            try:
                self.pulse = Pulse(self.emulator)
                self.enter(BOOT)
                self.watch()
            finally:
                self.emulator.kill()

    def memory_path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.memory}"

    @contextlib.contextmanager
    def device(self) -> Iterator[None]:
        """The process that is a device of the machine, if it has one; at the end, the memory that
        it shared is gone."""
        with contextlib.ExitStack() as stack:
            if self.memory >= 0:
                stack.callback(os.close, self.memory)
                stack.enter_context(device(build.ENGINE, self.socket, self.memory_path()))
            elif "{vfio_user}" in self.machine.command:
                stack.enter_context(device(build.DEVICE, self.socket))
            yield

    def watch(self) -> None:
        """Follows the console until the machine has ended or must be ended."""
        with self.console.open(encoding="utf-8", errors="replace") as tail:
            partial = ""
            while not STOP.is_set():
                running = self.emulator.running()
                self.emulator.drain()
                partial += tail.read()
                *lines, partial = partial.split("\n")
                for line in lines:
                    self.see(line)
                if self.is_over(running):
                    return
                time.sleep(POLL)

    def enter(self, suite: str) -> None:
        """What runs from now on."""
        self.current, self.since = suite, time.monotonic()
        self.since_cpu, self.since_guest = self.emulator.cpu(), self.log.guest_time

    def leave(self) -> None:
        """What ran has ended; the next thing is the machine's own."""
        self.seconds[self.current] = time.monotonic() - self.since
        counts = Counter(result.status for result in
                         self.judge().suite(self.tests[self.current]))
        said = ", ".join(f"{counts[status]} {word}" for status, word in WORDS.items()
                         if counts[status] or status == PASS)
        cpu = self.emulator.cpu() - self.since_cpu
        self.progress(self.current, f"{said} ({self.seconds[self.current]:.0f} s, CPU {cpu:.0f} s)")
        self.enter(BOOT)

    def judge(self, trace: str | None = None) -> Judge:
        """Of the log so far."""
        return Judge(self.machine.name, kunit_parser(TREES["patched"]), self.log, self.end,
                     self.seconds, trace)

    def results(self) -> list[Result]:
        """Of the boot that has ended."""
        trace = self.trace.read_text(errors="replace") if self.trace.exists() else None
        results = self.judge(trace).judge(self.tests.values())
        for result in results:
            result.console = self.kept(self.console)
        return results

    def kept(self, path: Path) -> str:
        """Where a file of this boot is kept, below OUT."""
        return f"{self.machine.name}/{path.stem}{self.number}{path.suffix}"

    def see(self, line: str) -> None:
        """Takes notice of a line: what runs now, or that the machine is at its end."""
        if self.end and not self.log.ended:
            return
        had_ended, had_ktap = self.log.ended, self.log.ktap
        mark = self.log.feed(line)
        if mark and mark[1] == "alive":
            # Not a sign of progress: a guest that waits for ever says it, too.
            self.check_limit()
            return
        self.pulse.beat()
        if self.log.ended:
            if not had_ended:
                self.end = End(self.current, CRASH, self.log.ended)
                self.enter(self.current)
        elif self.log.ktap and not had_ktap:
            self.measure()
            if KUNIT in self.tests:
                self.enter(KUNIT)
        elif mark and mark[1] == "boot":
            self.measure()
            if self.current == KUNIT:
                self.leave()
        elif mark and mark[1] == "done":
            self.enter(BOOT)
        elif mark and mark[2]:
            self.progress(mark[3], "started")
            self.enter(mark[3])
        elif mark and mark[4] and self.current in self.tests:
            self.leave()

    def measure(self) -> None:
        """How slow this machine is, from its boot up to here."""
        if BOOT not in self.seconds:
            self.seconds[BOOT] = time.monotonic() - self.since
            cpu = self.emulator.cpu()
            self.slowness = max(self.slowness, cpu / self.machine.boot)
            self.progress(BOOT, f"up after {cpu:.1f} s of CPU time")

    def over_limit(self) -> str:
        """What the current suite, or the boot, used more of than it may; empty if it did not."""
        cpu = self.emulator.cpu() - self.since_cpu
        limit: float = self.machine.boot * BOOTS
        if self.current != BOOT and not self.log.ended:
            limit = self.tests[self.current].timeout
            guest = self.log.guest_time - self.since_guest
            instructions = limit * INSTRUMENTED.get(CONFIG, 1)
            if self.machine.counts and guest > instructions:
                return f"{guest:.0f} s of the guest, and may use {instructions:.0f} s"
        # The clock of a guest that is stuck stands still.
        limit *= self.slowness * (BACKSTOP if self.machine.counts else 1)
        return f"{cpu:.0f} s of CPU time, and may use {limit:.0f} s" if cpu > limit else ""

    def check_limit(self) -> None:
        over = self.over_limit()
        if over and not self.end:
            self.end = End(self.current, TIMEOUT, f"over its limit: it used {over}")

    def is_over(self, running: bool) -> bool:
        """Whether to stop watching; says in self.end what was wrong, if anything."""
        if not running:
            self.check_exit()
            return True
        if self.log.ended:
            # The trace of a panic is still to come; after a second banner, nothing is.
            return self.log.rebooted or bool(self.over_limit()) or self.pulse.stopped(self.slowness)
        self.check_limit()
        if self.end:
            return True
        if self.pulse.stopped(self.slowness):
            self.end = End(self.current, HANG, "hangs: nothing on the console, and the emulator "
                           "does nothing")
        elif self.trace.exists() and self.trace.stat().st_size > walker.TRACE_LIMIT:
            self.end = End(self.current, TIMEOUT, "the trace of a bracket without an end is over "
                           f"{walker.TRACE_LIMIT >> 20} MiB")
        return bool(self.end)

    def check_exit(self) -> None:
        """What an emulator's exit status means; Bochs ends a power-off with status 1."""
        status = self.emulator.process.returncode
        if self.machine.emulator == "bochs":
            log = self.directory / "bochs.log"
            good = log.exists() and BOCHS_POWER_OFF in log.read_text(errors="replace")
        else:
            good = status == 0
        if not self.end and not (good and self.log.done):
            reason = f"the emulator ended by itself with status {status}"
            if self.trace.exists() and walker.NO_MORE_COMMANDS in self.trace.read_text(
                    errors="replace"):
                reason += f", stopped more often than for {walker.BRACKETS} brackets"
            self.end = End(self.current, CRASH, reason)

    def finished(self) -> set[str]:
        """The suites that ran to their end."""
        done = {name for name, segment in self.log.programs.items() if segment.how}
        return done | {KUNIT} if self.log.booted and KUNIT in self.tests else done


class Run:
    """A machine with its suites, in as many boots as they need."""

    def __init__(self, machine: Machine, tests: list[Test], progress: Progress) -> None:
        self.machine = machine
        self.tests = {test.suite: test for test in tests}
        self.progress = progress
        self.boots: list[Boot] = []
        self.seconds = 0.0

    @property
    def command(self) -> list[str]:
        return self.boots[0].command if self.boots else []

    def boot(self, image: Path) -> None:
        """Boots until each suite has run, or has ended the machine TRIES times.

        What ended the machine is tried again when all else has run: whether that happens each time
        is worth knowing. It stays a failure.
        """
        start = time.monotonic()
        left, again = list(self.tests), list[str]()
        ends: Counter[str] = Counter()
        slowness = 1.0
        while (left or again or not self.boots) and not STOP.is_set():
            suites, again = (left, again) if left or not again else (again, [])
            number = f".{len(self.boots) + 1}" if self.boots else ""
            boot = Boot(self.machine, [self.tests[name] for name in suites],
                        BUILD / "run" / f"{self.machine.name}{number}", self.progress, slowness,
                        number)
            boot.prepare(image)
            self.boots.append(boot)
            self.progress(BOOT, "started" + (f" again, for {', '.join(suites)}" if number else ""))
            boot.run()
            slowness = boot.slowness
            if not boot.end:
                left = []
                continue
            done = boot.finished()
            left = [name for name in suites if name not in done]
            ends[boot.end.suite] += 1
            self.progress(boot.end.suite, f"{boot.end.status}: {boot.end.reason}")
            if boot.end.suite in left:
                left.remove(boot.end.suite)
                again += [boot.end.suite] * (ends[boot.end.suite] < TRIES)
            elif ends[BOOT] >= TRIES:
                break
        self.seconds = time.monotonic() - start

    def results(self) -> list[Result]:
        """Of all boots; a suite that started in two of them has its results once."""
        boots = [boot.results() for boot in self.boots]
        found = [result for results in boots for result in results
                 if result.suite == BOOT and result.status not in GOOD]
        found = found or [result for result in boots[-1] if result.suite == BOOT]
        cause = next((result.name for result in found if result.status not in GOOD), "")
        for suite in self.tests:
            tries = [mine for mine in ([result for result in results if result.suite == suite]
                                       for results in boots) if mine]
            if tries:
                found += merge(tries)
            else:
                found.append(Result(self.machine.name, suite, PROGRAM, suite,
                                    NOT_RUN if cause else CRASH, cause=cause,
                                    reason="" if cause else "it was never started"))
        return found


def merge(tries: list[list[Result]]) -> list[Result]:
    """The results of a suite that ended its machine when it was first tried.

    Whatever failed then stays a failure; the rest is what it says when it runs to its end.
    """
    first, last = tries[0], tries[-1]
    if len(tries) == 1:
        return first
    ended = next(result for result in first
                 if result.test == PROGRAM and result.status not in GOOD)
    again = [result for result in last if result.test == PROGRAM and result.status not in GOOD]
    if again:
        ended.reason += f" (tried again: {again[0].status})"
        return first
    ended.reason += " (tried again: it ran to its end)"
    kept = [result for result in first if result.status not in (*GOOD, NOT_RUN)]
    failed = {(result.test, result.row) for result in kept}
    return kept + [result for result in last if (result.test, result.row) not in failed]
