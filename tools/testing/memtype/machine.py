# SPDX-License-Identifier: GPL-2.0-only
"""One emulated machine: boots, is watched on its console, and never outlives the runner."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import build
import console
import rootfs
import settings
import walker
from console import BOOT, MARK, STAMP, Test
from data import Machine
from settings import BUILD

# Every test line reaches the console, whatever the program prints at what speed.
CMDLINE = "printk.devkmsg=on printk.time=1 ignore_loglevel log_buf_len=4M panic=-1"
BOCHS_POWER_OFF = "ACPI control: soft power off"
POLL = 0.1
# How much longer everything may take under CONFIG=debug (KASAN, lockdep).
SLOW = 5 if settings.CONFIG == "debug" else 1
# How long a panic may take to print its trace.
LAST_WORDS = 2.0
# Set when the user wants the whole run to end.
STOP = threading.Event()
# How long an emulator may take to end by itself after the last line.
GRACE = 20.0


class Run:
    """A machine with the tests that it runs in one boot."""

    def __init__(self, machine: Machine, tests: list[Test],
                 progress: Callable[[str, str], None]) -> None:
        self.machine = machine
        self.tests = {test.suite: test for test in tests}
        self.progress = progress
        self.directory = BUILD / "run" / machine.name
        self.console = self.directory / "console.log"
        self.trace = self.directory / "trace.txt"       # Bochs only
        self.command: list[str] = []
        self.seconds: dict[str, float] = {}
        self.ended = ""         # what was wrong with the end, if anything
        self.overtime = ""      # the suite during which a limit passed
        self.done = False
        self.banners = 0
        self.start_time = 0.0
        self.enter(BOOT, machine.boot_limit)
        self.process: subprocess.Popen[bytes] | None = None
        self.terminal = -1

    def prepare(self, image: Path, shell: Path | None = None) -> None:
        machine = self.machine
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        places: dict[str, str | Path] = {"run": self.directory, "cpu": machine.cpu}
        if "{qemu10}" in machine.command:
            places["qemu10"] = build.qemu10()
        if "{rootfs}" in machine.command:
            places["rootfs"] = rootfs.directory(machine.arch)
        self.command = shlex.split(machine.command.format(**places))
        initrd = self.directory / "initrd"
        build.initramfs(machine.arch, list(self.tests.values()), initrd, shell, self.guest(image))
        cmdline = f"{machine.cmdline} {CMDLINE}"
        if console.KUNIT not in self.tests:
            cmdline += " kunit.enable=0"
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

    def guest(self, image: Path) -> dict[str, Path]:
        """What a VMM in the machine boots: the same kernel, and an initramfs with what the tests
        run in their guests.

        It gives a shell; in Bochs, where that would take too long, it runs these programs, one
        after the other.
        """
        programs = sorted({program for test in self.tests.values() for program in test.guest})
        if not programs:
            return {}
        arch, initrd = self.machine.arch, self.directory / "guest/initrd"
        build.initramfs(arch, [Test(program, [], program=program) for program in programs], initrd,
                        None if self.machine.emulator == "bochs" else build.busybox(arch))
        return {"kernel": image, "initrd": initrd}

    def start(self) -> None:
        """In a session of its own, so that everything it starts can be ended with it."""
        self.console.touch()
        with (self.directory / "emulator.log").open("wb") as log:
            stdout = log.fileno()
            if self.machine.emulator == "bochs":
                # Its text mode display wants a terminal; what it draws there is of no use.
                self.terminal, stdout = pty.openpty()
                os.set_blocking(self.terminal, False)
            # stdin must not be that terminal: whenever the guest is idle, Bochs waits for a key
            # for 1 ms (bx_term_gui_c::sim_is_idle), which makes timers in the guest very slow.
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.STDOUT,
                cwd=self.directory, env={**os.environ, "TERM": "screen"}, start_new_session=True)
            if self.terminal >= 0:
                os.close(stdout)

    def kill(self) -> None:
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()

    def watch(self) -> None:
        """Follows the console until the machine has ended or must be ended."""
        self.start_time = time.monotonic()
        self.enter(BOOT, self.machine.boot_limit)
        with self.console.open(encoding="utf-8", errors="replace") as tail:
            partial = ""
            while not STOP.is_set():
                assert self.process
                running = self.process.poll() is None
                self.drain()
                partial += tail.read()
                *lines, partial = partial.split("\n")
                for line in lines:
                    self.see(line.rstrip("\r"))
                if self.is_over(running):
                    return
                time.sleep(POLL)

    def enter(self, suite: str, limit: float) -> None:
        """What runs from now on, and for how many seconds it may."""
        self.current, self.since = suite, time.monotonic()
        self.limit = limit * SLOW

    def see(self, line: str) -> None:
        """Takes notice of a line: what runs now, or that the machine is at its end."""
        if self.ended:
            return      # the trace of a panic
        self.ended = console.end_of_machine(line, self.banners)
        self.banners += bool(console.BANNER.match(line))
        mark = MARK.match(STAMP.sub("", line))
        if self.ended:
            self.enter(self.current, LAST_WORDS)
        elif not mark:
            return
        elif mark[1] == "done":
            self.done = True
            self.enter(BOOT, GRACE)
        elif mark[2]:
            self.progress(mark[3], "started")
            self.enter(mark[3], self.tests[mark[3]].timeout)
        else:
            self.seconds[self.current] = time.monotonic() - self.since
            self.progress(self.current, f"{self.seconds[self.current]:.0f} s")
            self.enter(BOOT, self.machine.boot_limit)

    def is_over(self, running: bool) -> bool:
        """Whether to stop watching; says in self.ended what was wrong, if anything."""
        now = time.monotonic()
        late = now - self.since > self.limit
        if self.ended:
            return late or not running
        if not running:
            self.check_exit()
            return True
        if self.done and late:
            self.ended = f"did not power off within {self.limit:.0f} s"
        elif late:
            self.ended, self.overtime = (
                f"{self.current} is over its limit of {self.limit:.0f} s", self.current)
        elif now - self.start_time > self.machine.time_limit * SLOW:
            self.ended, self.overtime = (
                f"the machine is over its limit of {self.machine.time_limit * SLOW} s",
                self.current)
        elif self.trace.exists() and self.trace.stat().st_size > walker.TRACE_LIMIT:
            self.ended, self.overtime = (
                f"the trace of a bracket without an end is over {walker.TRACE_LIMIT >> 20} MiB",
                self.current)
        return bool(self.ended)

    def drain(self) -> None:
        """Bochs stops when nobody reads the terminal that it draws on."""
        while self.terminal >= 0:
            try:
                if not os.read(self.terminal, 1 << 16):
                    return
            except (BlockingIOError, OSError):
                return

    def check_exit(self) -> None:
        """What an emulator's exit status means; Bochs ends a power-off with status 1."""
        assert self.process
        status = self.process.returncode
        if self.machine.emulator == "bochs":
            log = self.directory / "bochs.log"
            good = log.exists() and BOCHS_POWER_OFF in log.read_text(errors="replace")
        else:
            good = status == 0
        if not good or not self.done:
            self.ended = f"the emulator ended by itself with status {status}"
            if self.trace.exists() and walker.NO_MORE_COMMANDS in self.trace.read_text(
                    errors="replace"):
                self.ended += f", stopped more often than for {walker.BRACKETS} brackets"

    def boot(self) -> None:
        """Runs the machine to its end; the console log is in self.console then."""
        try:
            self.start()
            self.watch()
        finally:
            self.kill()
            if self.terminal >= 0:
                os.close(self.terminal)
