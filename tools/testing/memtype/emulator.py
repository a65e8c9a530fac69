# SPDX-License-Identifier: GPL-2.0-only
"""The process of an emulator: what it uses of this machine, and whether it still does anything.

Nothing here asks how long something takes by the clock on the wall. What an emulator has done is
the CPU time that it used, however many others want the CPU, too. An emulator that does nothing is
one that neither ran nor waited for a CPU.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
# A machine hangs if its console is silent for so many seconds, and its emulator ran for less than
# this part of those in which it did not wait for a CPU. The CPUs of a guest that sleeps need 1 to
# 18 % (an idle Linux, 2 CPUs, QEMU 7.2, by how fast and how busy the machine is: caches that others
# have used are cold). A guest that is alive says so every 10 s, whatever it needs.
SILENCE, IDLE, MAX_IDLE = 25.0, 0.3, 0.5
# How often one must have looked meanwhile, so as not to take a runner that was stopped for a hang.
LOOKS = 50


class Emulator:
    """A running emulator, in a session of its own, so that all that it starts ends with it."""

    def __init__(self, command: list[str], directory: Path) -> None:
        with (directory / "emulator.log").open("wb") as log:
            # stdin must not be a terminal: whenever the guest is idle, Bochs waits for a key there
            # for 1 ms (bx_term_gui_c::sim_is_idle), which makes timers in the guest very slow.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                cwd=directory, env={**os.environ, "TERM": "screen"}, start_new_session=True)
        self.proc = Path("/proc") / str(self.process.pid)
        self.terminals: dict[str, int] = {}     # of the emulator's own, by number: what we read
        self.cpu_time = 0.0

    def running(self) -> bool:
        return self.process.poll() is None

    def cpu(self) -> float:
        """Seconds of CPU time that it used, in all its threads; the last known if it has ended."""
        try:
            fields = (self.proc / "stat").read_text().rpartition(")")[2].split()
            self.cpu_time = max(self.cpu_time, (int(fields[11]) + int(fields[12])) * TICK)
        except OSError:
            pass
        return self.cpu_time

    def waited(self) -> dict[str, float]:
        """Seconds that each of its threads, as far as they are there, waited for a CPU."""
        found = {}
        for path in self.proc.glob("task/*/schedstat"):
            try:
                found[path.parent.name] = int(path.read_text().split()[1]) / 1e9
            except (OSError, IndexError):
                continue    # that thread has ended, or the kernel does not count
        return found

    def waits_for_disk(self) -> bool:
        """Whether one of its threads is in an uninterruptible sleep."""
        for path in self.proc.glob("task/*/stat"):
            try:
                if path.read_text().rpartition(")")[2].split()[0] == "D":
                    return True
            except (OSError, IndexError):
                continue    # that thread has ended
        return False

    def drain(self) -> None:
        """Reads what the emulator draws on terminals that it opened itself.

        Bochs with its debugger writes its text screen to the master of a terminal of its own. When
        nobody reads that, the line discipline is full at some time, and Bochs sleeps for ever.
        """
        for path in self.proc.glob("fd/*"):
            try:
                if os.readlink(path) not in ("/dev/ptmx", "/dev/pts/ptmx"):
                    continue
                info = (self.proc / "fdinfo" / path.name).read_text()
                number = re.search(r"^tty-index:\s*(\d+)$", info, re.M)
                if number and number[1] not in self.terminals:
                    self.terminals[number[1]] = open_terminal(number[1])
            except OSError:
                continue    # it has ended, or the terminal is not ready
        for terminal in self.terminals.values():
            try:
                while os.read(terminal, 1 << 16):
                    pass
            except OSError:
                continue    # nothing more to read, or it is closed

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        for terminal in self.terminals.values():
            os.close(terminal)
        self.terminals.clear()


def open_terminal(number: str) -> int:
    """The slave of a terminal, to read what comes at once and to echo nothing."""
    terminal = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(terminal)
    except termios.error as error:
        os.close(terminal)
        raise OSError(f"terminal {number}: {error}") from error
    return terminal


@contextlib.contextmanager
def device(program: Path, where: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is a device, for the emulator that connects to the socket `where`."""
    with socket.socket(socket.AF_UNIX) as listening, where.with_suffix(".log").open("wb") as log:
        listening.bind(str(where))
        listening.listen()
        process = subprocess.Popen([program, *args], stdin=listening.fileno(), stdout=log,
                                   stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Pulse:
    """Tells an emulator that hangs from one that is slow, or that gets little of the CPU."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.beat()

    def beat(self) -> None:
        """The console said something, or the emulator did something."""
        self.since, self.looks = time.monotonic(), 0
        self.used, self.waited = self.emulator.cpu(), self.emulator.waited()

    def stopped(self, slowness: float = 1.0) -> bool:
        """Whether it hangs; to be asked regularly. An idle guest needs more of a slower machine."""
        self.looks += 1
        silence = time.monotonic() - self.since
        if silence < SILENCE or self.looks < LOOKS:
            return False
        # One of its threads waits no longer than the silence lasts; all of them together may.
        free = silence - max((seconds - self.waited.get(thread, 0.0)
                              for thread, seconds in self.emulator.waited().items()), default=0.0)
        idle = min(IDLE * slowness, MAX_IDLE) * free
        if self.emulator.cpu() - self.used < idle and not self.emulator.waits_for_disk():
            return True
        self.beat()
        return False
