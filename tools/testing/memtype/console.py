# SPDX-License-Identifier: GPL-2.0-only
"""The console of a machine, cut into one segment per program while it comes in.

init.c says what its own lines look like; everything else is the kernel's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from results import BOOT

STAMP = re.compile(r"^\[ *(\d+\.\d+)\] ?")
MARK = re.compile(r"^memtype> (?:(boot|done|alive)|(start) (\S+)|(end) (\S+) (exit|signal)=(\d+)|"
                  r"(counts) (\S+))$")
PANIC = re.compile(r"Kernel panic - not syncing")
BANNER = re.compile(r"^(?:\[[ .\d]*\] ?)?Linux version ")
KTAP = re.compile(r"\s*K?TAP version \d+$")


@dataclass
class Line:
    text: str           # without the time stamp and our prefix
    kernel: bool        # a message of the kernel's own, not a program's output
    raw: str


@dataclass
class Segment:
    name: str
    lines: list[Line] = field(default_factory=list)
    how: str = ""       # "exit" or "signal"; empty if there is no end mark
    code: int = 0

    def output(self) -> list[str]:
        return [line.text for line in self.lines if not line.kernel]

    def messages(self) -> list[str]:
        return [line.text for line in self.lines if line.kernel]

    def before_ktap(self) -> list[Line]:
        """Of the boot, the part before KUnit starts."""
        for number, line in enumerate(self.lines):
            if KTAP.match(line.text):
                return self.lines[:number]
        return self.lines


class Log:
    """A console log so far. After a panic only its own trace counts, and nothing after a second
    boot banner."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.boot = Segment(BOOT)
        self.programs: dict[str, Segment] = {}
        self.between = Segment(BOOT)    # what the kernel says outside the programs
        self.current = self.boot
        self.booted = False
        self.ktap = False       # KUnit has started
        self.done = False
        self.ended = ""         # why the machine is over, if its console says so
        self.rebooted = False
        self.guest_time = 0.0   # in seconds, by the guest's own clock
        self.partial = ""
        self.counts: dict[str, list[str]] = {}  # the words of gcov's files, by path
        self.counted = ""       # the file that comes in
        self.banners = 0
        for line in lines:
            self.feed(line)

    def feed(self, raw: str) -> re.Match[str] | None:
        """Takes the next line; returns the match of MARK if it is one of init's marks."""
        raw = raw.rstrip("\r\n")
        if BANNER.match(raw):
            self.rebooted = self.banners > 0
            self.banners += 1
        if self.rebooted:
            self.ended = self.ended or "the machine rebooted by itself"
            return None
        stamp = STAMP.match(raw)
        if not stamp:
            return None     # firmware, boot loader
        self.guest_time = float(stamp[1])
        text = raw[stamp.end():]
        if text.startswith("memtype+ "):
            self.partial += text[9:]
            return None
        if text.startswith("memtype|"):
            self.current.lines.append(Line(self.partial + text[9:], False, raw))
            self.partial = ""
            return None
        if text.startswith("memtype= "):
            self.counts.setdefault(self.counted, []).extend(text[9:].split())
            return None
        if PANIC.search(text) and not self.ended:
            self.ended = text
        mark = None if self.ended else MARK.match(text)
        if mark:
            self.mark(mark)
        else:
            self.ktap = self.ktap or not self.booted and bool(KTAP.match(text))
            self.current.lines.append(Line(text, True, raw))
        return mark

    def mark(self, mark: re.Match[str]) -> None:
        """Goes to the segment that starts with this mark."""
        if mark[1] == "boot":
            self.booted, self.current = True, self.between
        elif mark[1] == "done":
            self.done = True
        elif mark[2]:
            self.current = self.programs.setdefault(mark[3], Segment(mark[3]))
        elif mark[4]:
            self.current.how, self.current.code = mark[6], int(mark[7])
            self.current = self.between
        elif mark[8]:
            self.counted = mark[9]
