# SPDX-License-Identifier: GPL-2.0-only
"""Of CONFIG=coverage: which lines of our kernel code no test reached, by gcov.

A machine says what gcov counted when its last suite has ended (init.c). A line is reached if any
machine, of whatever architecture, reached it. Counted are the lines of our own files, and those
that our patches add to others; tests and what only tests use do not count.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import build
import tree
from console import Log
from settings import ARCHES, OUT, TREES, output, say

# Where a machine has gcov's files, by the paths of the objects where they were built.
GCOV = "/sys/kernel/debug/gcov"
WIDTH = 100
ALL = "all"
# Of a file: each line that has code, and whether it was reached.
Lines = dict[int, bool]


@dataclass
class Coverage:
    """What the machines of a run reached, by file."""
    files: dict[str, Lines] = field(default_factory=dict)
    # Our lines, with and without code.
    ours: set[tuple[str, int]] = field(default_factory=set)
    boots: list[str] = field(default_factory=list)
    # Those that ended before they said what gcov counted.
    lost: list[str] = field(default_factory=list)

    def add(self, name: str, number: int, reached: bool) -> None:
        lines = self.files.setdefault(name, {})
        lines[number] = lines.get(number, False) or reached


def gcov(arch: str, log: Log) -> str:
    """What gcov makes of the counts of one boot: a line of JSON for each object."""
    with tempfile.TemporaryDirectory() as scratch:
        files: list[Path] = []
        for path, words in log.counts.items():
            # Each in a directory of its own: several objects have the same name.
            built = Path(path.removeprefix(GCOV))
            data = Path(scratch) / str(len(files)) / built.name
            data.parent.mkdir()
            data.write_bytes(struct.pack(f"<{len(words)}I", *(int(word, 16) for word in words)))
            data.with_suffix(".gcno").symlink_to(built.with_suffix(".gcno"))
            files.append(data)
        return output([f"{ARCHES[arch].cross}gcov", "--json-format", "--stdout", *files])


def collect(machines: dict[str, str], out: Path) -> Coverage:
    """From the consoles below `out` of these machines, which come with their architectures."""
    found = Coverage()
    found.ours = {(name, number) for name, number in tree.our_lines()
                  if not build.is_instrument(name)}
    linux = TREES["patched"].resolve()
    for machine, arch in machines.items():
        for console in sorted((out / machine).glob("console*.log")):
            boot = machine + console.stem.removeprefix("console")
            log = Log(console.read_text(errors="replace").splitlines())
            if not (log.done and log.counts):
                found.lost.append(boot)
                continue
            found.boots.append(boot)
            for unit in map(json.loads, gcov(arch, log).splitlines()):
                for item in unit["files"]:
                    # Names are relative to where kbuild ran.
                    path = (build.objects(arch) / item["file"]).resolve()
                    name = os.path.relpath(path, linux)
                    # A line is there again for each function that it was inlined into.
                    for line in item["lines"]:
                        if (name, line["line_number"]) in found.ours:
                            found.add(name, line["line_number"], line["count"] > 0)
    return found


def missed(found: Coverage, name: str) -> list[tuple[int, int]]:
    """First and last line of each piece of a file that was not reached; lines of ours without code
    part nothing."""
    pieces: list[tuple[int, int]] = []
    last = 0
    for number, reached in sorted(found.files[name].items()):
        if not reached:
            goes_on = last and all((name, between) in found.ours for between in range(last, number))
            pieces.append((pieces.pop()[0] if goes_on else number, number))
        last = 0 if reached else number
    return pieces


def table(found: Coverage) -> list[str]:
    """How much of each file and of all was reached, and which lines were not."""
    text = [f"Our kernel code on {', '.join(found.boots) or 'no machine'}"]
    if found.lost:
        text.append(f"Not counted, because the machine ended too early: {', '.join(found.lost)}")
    text = [line for one in text for line in textwrap.wrap(one, WIDTH, break_on_hyphens=False)]
    width = max(map(len, [ALL, *found.files]))
    text += ["", f"{'':{width}}  lines  reached    %  not reached"]
    rows = sorted(found.files.items())
    everything = dict(enumerate(reached for _, lines in rows for reached in lines.values()))
    for name, lines in [*rows, (ALL, everything)]:
        reached = sum(lines.values())
        percent = 100 * reached // max(len(lines), 1)
        text.append(f"{name:{width}}  {len(lines):5}  {reached:7}  {percent:3}")
        if name != ALL:
            pieces = ", ".join(f"{first}-{last}" if last > first else str(first)
                               for first, last in missed(found, name))
            text += textwrap.wrap(pieces, WIDTH, initial_indent="    ", subsequent_indent="    ",
                                  break_on_hyphens=False)
    return text


def source(found: Coverage) -> list[str]:
    """The text of what was not reached."""
    text = []
    for name in sorted(found.files):
        code = (TREES["patched"] / name).read_text().splitlines()
        for first, last in missed(found, name):
            text += ["", f"{name}:{first}"]
            text += [f"{number:5} {code[number - 1]}" for number in range(first, last + 1)]
    return text


def report(machines: dict[str, str], out: Path = OUT) -> None:
    """Prints the table; coverage.txt has the lines themselves, too."""
    found = collect(machines, out)
    text = table(found)
    path = out / "coverage.txt"
    path.write_text("\n".join([*text, *source(found)]) + "\n")
    say("\n".join(["", *text, "", f"The lines themselves are in {path}"]))
