# SPDX-License-Identifier: GPL-2.0-only
"""`make bench`: what it costs, in five tables.

Instructions per second-stage fault and per query, per GiB that is mapped and unmapped for DMA
through IOMMUFD, until a killed process is gone, and until others may run meanwhile, base against
patched. The emulators count:
QEMU's virtual time advances by one tick per instruction under -icount, and Bochs's TSC does so by
itself. The programs check that on each machine, by a loop of known length.

And the speed of the line loops of cache maintenance on this machine's CPU (dma_cache_lines.c).
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import matrix
import summary
import settings
import tables
import tree
from results import GOOD
from settings import CONFIG, KERNEL, OUT, TREES, fail, output, say

PROGRAM, DMA = "kvm/memtype_bench", "iommu/dma_cache_bench"
# What PROGRAM measures, and whether the base has it too.
MEASURED = {"4K-fault": True, "2M-fault": True, "query": False}
# What DMA measures.
PAGES = ("4K", "2M")
MAPPED = [f"{what} {pages}, {domains} domain{'s' * (domains - 1)}" for pages in PAGES
          for domains in (1, 2) for what in ("map", "unmap")]
MAPPED += [f"{what} {pages}" for pages in PAGES
           for what in ("attach", "detach", "detach pinned")]
# How much more may a fault cost, and coherent DMA, in percent; of the bare loop's speed, how much
# must remain; and how much faster than with a pair of fences for each page must clean lines be?
GOAL_PERCENT, GOAL_COHERENT_PERCENT, GOAL_BARE, GOAL_FENCED = 1.0, 0.5, 0.95, 1.3
# How many more instructions may each 4K of maintained memory cost than those of its lines (2M
# pages: 0.5 million a GiB; the last one that is part of a name counts), and how many instructions
# are four lines?
GOAL_BEYOND = {"4K": 72.0, "2M": 1.9, "detach pinned": 60.0}
FOUR_LINES = {"x86_64": 7, "arm64": 10}
LINE = re.compile(r"^# memtype-bench: what=(\S+) median=(\d+) unit=(\S+) of=\d+$", re.M)
DMA_LINE = re.compile(r"^# memtype-dma: pages=(\S+) domains=(\d) map=(\d+) unmap=(\d+) "
                      r"cleaned=(\d+) flushed=(\d+) unit=(\S+)$", re.M)
ATTACH_LINE = re.compile(r"^# memtype-dma-attach: pages=(\S+) attach=(\d+) detach=(\d+) "
                         r"pinned=(\d+) cleaned=(\d+) flushed=(\d+) unit=(\S+)$", re.M)
KILLED_LINE = re.compile(r"^# memtype-dma-killed: space=(\S+) size=(\d+) percent=(\d+) "
                         r"map=(\d+) unmap=(\d+) after=(\d+) cleaned=(\d+) unit=(\S+)$", re.M)
LONGEST_LINE = re.compile(r"^# memtype-dma-longest: domains=(\d) stretch=(\d+) "
                          r"clean-chunk=(\d+) flush-chunk=(\d+) unit=(\S+)$", re.M)
LOOP_LINE = re.compile(
    r"^memtype-lines: insn=(\S+) lines=(\S+) size=(\d+) kernel=(\S+) bare=(\S+) fenced=(\S+) "
    r"over-bare=(\S+) error=(\S+) over-fenced=(\S+) error=(\S+) rounds=\d+$", re.M)
NO_LOOP_LINE = re.compile(r"^memtype-lines: insn=(\S+) unavailable$", re.M)
# The line loops on this machine, and the kernel's constant that they are measured with.
LOOPS = "tools/testing/memtype/dma_cache_lines.c"
CHUNK = re.compile(r"^#define CHUNK_PAGES\s+\(SZ_(\d+)M / PAGE_SIZE\)$", re.M)
# Of the command line of QEMU: one CPU, one instruction per nanosecond and per tick of the counter
# (x86's TSC counts nanoseconds under -icount, the Arm timer what its frequency says).
COUNTING = ((r"-smp \d+", "-smp 1"),
            (r"-accel tcg\S*", "-accel tcg,thread=single -icount shift=0,sleep=off"),
            (r"(qemu-system-aarch64 .*-cpu \S+)", r"\1,cntfrq=1000000000"))


@dataclasses.dataclass
class Row:
    """One object of bench.json's "results"."""
    machine: str
    what: str
    base: int | None        # instructions
    patched: int
    limit: float | None = None      # percent
    lines: int | None = None        # cache lines maintained
    wanted: int | None = None       # how many there should be
    beyond: float | None = None     # instructions for each 4K that are not those of its lines
    most: float | None = None       # how many there may be

    @property
    def percent(self) -> float | None:
        return None if self.base is None else 100 * (self.patched - self.base) / self.base

    @property
    def goal(self) -> str:
        if self.limit is None and self.wanted is None and self.most is None:
            return "-"
        cheap = self.limit is None or self.percent is not None and self.percent <= self.limit
        short = self.most is None or self.beyond is not None and self.beyond <= self.most
        return "met" if cheap and short and self.wanted in (None, self.lines) else "missed"


@dataclasses.dataclass
class Loop:
    """One object of bench.json's "loops": times of the fenced and of the bare loop over ours."""
    insn: str
    lines: str
    size: int
    kernel: float           # GB/s
    bare: float
    fenced: float
    over_bare: float
    over_bare_error: float
    over_fenced: float
    over_fenced_error: float

    @property
    def goal(self) -> str:
        """What the noise leaves open is not missed."""
        wanted = [(self.over_bare, self.over_bare_error, GOAL_BARE)]
        # One page has as many fences either way.
        if self.lines == "clean" and self.size > 4096:
            wanted.append((self.over_fenced, self.over_fenced_error, GOAL_FENCED))
        if all(ratio >= goal for ratio, _, goal in wanted):
            return "met"
        if all(ratio + 2 * error >= goal for ratio, error, goal in wanted):
            return "unclear"
        return "missed"


def machines() -> dict[str, tables.Machine]:
    """Those that MACHINE= leaves, with clocks that count."""
    return {name: counting(item) for name, item in tables.select()[0].items() if item.bench}


def coherent_machines() -> list[str]:
    """Where the kernel takes all DMA for coherent, and it is measured."""
    return [name for name, item in tables.all_machines().items()
            if DMA in item.bench and item.coherent]


def counting(item: tables.Machine) -> tables.Machine:
    """The machine with a counter that counts instructions."""
    command = " ".join(item.command.split())
    for pattern, counted in COUNTING:
        command = re.sub(pattern, counted, command)
    return dataclasses.replace(item, command=command)


def measure() -> None:
    """Run the programs on the kernel of KERNEL=."""
    if CONFIG:
        fail("make bench measures what users get: without CONFIG=")
    chosen = machines()
    if not chosen:
        fail("make bench runs on " + ", ".join(
            name for name, item in tables.all_machines().items() if item.bench))
    out = OUT / "bench" / KERNEL
    tests = [tables.Test(program, [name for name, item in chosen.items() if program in item.bench],
                         timeout=1000, program=program) for program in (PROGRAM, DMA)]
    ran = matrix.run_matrix(chosen, tests, out, [Path(PROGRAM), Path(DMA)])
    problems = [f"{summary.name_of(result)}: {result['status']} {result['reason']}\n"
                f"  log: {out / result['machine'] / 'console.log'}"
                for result in ran["results"] if result["status"] not in GOOD]
    if problems:
        fail("\n".join(problems))


def instructions(what: str, unit: str) -> None:
    if unit != "instructions":
        fail(f"{what}: the machine counts {unit}, not instructions")


def medians(ktap: str) -> dict[str, int]:
    """What was measured → instructions, from the output of PROGRAM."""
    found = {}
    for what, median, unit in LINE.findall(ktap):
        instructions(what, unit)
        found[what] = int(median)
    return found


@dataclasses.dataclass
class Cost:
    """Of 1 GiB."""
    instructions: int
    lines: int


Costs = dict[str, Cost]


def mappings(ktap: str) -> Costs:
    """What was measured → its cost, from the output of DMA."""
    found = {}
    for pages, domains, map_, unmap, cleaned, flushed, unit in DMA_LINE.findall(ktap):
        what = f"{pages}, {domains} domain{'s' * (int(domains) - 1)}"
        instructions(what, unit)
        found[f"map {what}"] = Cost(int(map_), int(cleaned))
        found[f"unmap {what}"] = Cost(int(unmap), int(flushed))
    for pages, attach, detach, pinned, cleaned, flushed, unit in ATTACH_LINE.findall(ktap):
        instructions(f"attach {pages}", unit)
        found[f"attach {pages}"] = Cost(int(attach), int(cleaned))
        found[f"detach {pages}"] = Cost(int(detach), int(flushed))
        found[f"detach pinned {pages}"] = Cost(int(pinned), int(flushed))
    return found


def fault_rows(base: dict[str, dict[str, int]], patched: dict[str, dict[str, int]]) -> list[Row]:
    """The table, from machine → what → instructions of each kernel."""
    for kernel, found in (("base", base), ("patched", patched)):
        for machine in patched:
            missing = [what for what, on_base in MEASURED.items()
                       if what not in found.get(machine, {})
                       and (on_base or kernel == "patched")]
            if missing:
                fail(f"{machine}: nothing measured of {', '.join(missing)} with KERNEL={kernel}")
    return [Row(machine, what.replace("-", " "), base[machine].get(what), found[what],
                GOAL_PERCENT if on_base else None)
            for machine, found in patched.items() for what, on_base in MEASURED.items()]


def dma_rows(base: dict[str, Costs], patched: dict[str, Costs]) -> list[Row]:
    """The table, from machine → costs with each kernel.

    Coherent DMA must cost next to nothing and maintain no line, and a second domain no more
    lines than one; what is maintained, little beyond the lines.
    """
    found = []
    known = tables.all_machines()
    for machine, costs in patched.items():
        coherent = machine in coherent_machines()
        for kernel, measured in (("base", base.get(machine, {})), ("patched", costs)):
            if set(measured) != set(MAPPED):
                fail(f"{machine}: not all DMA was measured with KERNEL={kernel}")
        for what in MAPPED:
            old, new = base[machine][what], costs[what]
            if coherent:
                # Where an access keeps the pages there is next to nothing to do.
                limit = None if "pinned" in what else GOAL_COHERENT_PERCENT
                found.append(Row(machine, what, old.instructions, new.instructions, limit,
                                 new.lines, 0))
                continue
            if not new.lines:
                fail(f"{machine}: {what}: no cache line was maintained")
            one = costs[what.replace("2 domains", "1 domain")]
            four = FOUR_LINES[known[machine].arch]
            found.append(Row(
                machine, what, old.instructions, new.instructions, None, new.lines,
                one.lines if one is not new else None,
                (new.instructions - old.instructions - new.lines * four / 4) / (1 << 18),
                next(most for of, most in reversed(GOAL_BEYOND.items()) if of in what)))
    return found


def killed(base: dict[str, str], patched: dict[str, str]) -> str:
    """What is printed of processes that were killed, from machine → the output of DMA."""
    lines = [["machine", "space", "GiB", "killed at %", "base", "patched", "cleaned %"]]
    for machine, ktap in patched.items():
        old = {tuple(key): after for *key, _, _, after, _, _ in KILLED_LINE.findall(base[machine])}
        for space, size, percent, _, _, after, cleaned, unit in KILLED_LINE.findall(ktap):
            instructions("a killed process", unit)
            share = 100 * int(cleaned) / (int(size) << 18)
            lines.append([machine, space, size, percent, old[space, size, percent], after,
                          f"{share:.0f}"])
    return settings.columns(lines)


def longest(base: dict[str, str], patched: dict[str, str]) -> str:
    """What is printed of 1 GiB at once, from machine → the output of DMA with each kernel."""
    lines = [["machine", "domains", "base", "patched", "chunk of clean", "chunk of flush"]]
    for machine, ktap in patched.items():
        stretches = {}
        for domains, stretch, _, _, unit in LONGEST_LINE.findall(base[machine]):
            instructions("the longest stretch", unit)
            stretches[domains] = stretch
        for domains, stretch, clean, flush, unit in LONGEST_LINE.findall(ktap):
            instructions("the longest stretch", unit)
            lines.append([machine, domains, stretches[domains], stretch, clean, flush])
    return settings.columns(lines)


def table(found: list[Row]) -> str:
    lines = [["machine", "what", "base", "patched", "difference %", "lines", "beyond", "goal"]]
    lines += [[row.machine, row.what, "-" if row.base is None else str(row.base),
               str(row.patched), "-" if row.percent is None else f"{row.percent:+.2f}",
               "-" if row.lines is None else str(row.lines),
               "-" if row.beyond is None else f"{row.beyond:.1f}", row.goal] for row in found]
    if all(row.lines is None for row in found):
        lines = [line[:5] + line[7:] for line in lines]
    return settings.columns(lines)


def time_loops() -> None:
    """Run the line loops on this machine."""
    linux = TREES["patched"]
    tree.lay("patched")
    chunk = CHUNK.search((linux / "mm/dma_cache.c").read_text())
    if not chunk:
        fail("mm/dma_cache.c has no CHUNK_PAGES in MiB")
    out = OUT / "bench"
    out.mkdir(parents=True, exist_ok=True)
    program = settings.BUILD / "dma-cache-lines"
    output(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", f"-DCHUNK={int(chunk[1]) << 20}ul",
            "-o", program, linux / LOOPS, "-lm"])
    say("  the line loops on this machine: about 2 minutes")
    (out / "lines.txt").write_text(output([program]))


def loops(text: str) -> tuple[list[Loop], list[str]]:
    """What the line loops printed, and which instructions this CPU does not have."""
    found = [Loop(insn, kind, int(size), *map(float, numbers))
             for insn, kind, size, *numbers in LOOP_LINE.findall(text)]
    if not found:
        fail("nothing measured of the line loops: run make bench")
    return found, NO_LOOP_LINE.findall(text)


def loop_table(found: list[Loop], unavailable: list[str]) -> str:
    lines = [("instruction", "lines", "size", "kernel GB/s", "bare", "fenced", "kernel/bare",
              "kernel/fenced", "goal")]
    lines += [(loop.insn, loop.lines, f"{loop.size >> 10} KiB", f"{loop.kernel:.1f}",
               f"{loop.bare:.1f}", f"{loop.fenced:.1f}",
               f"{loop.over_bare:.3f} ±{loop.over_bare_error:.3f}",
               f"{loop.over_fenced:.2f} ±{loop.over_fenced_error:.2f}", loop.goal)
              for loop in found]
    return "\n".join([settings.columns(lines),
                      *(f"{insn}: this CPU does not have it" for insn in unavailable)])


def load(kernel: str, program: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The environment of one kernel's run, and machine → output of the program."""
    out = OUT / "bench" / kernel
    ran = summary.load(out)
    paths = {machine: out / machine / f"{program.replace('/', '.')}.ktap"
             for machine in ran["machines"]}
    return ran["environment"], {machine: path.read_text() for machine, path in paths.items()
                                if path.exists()}


def report() -> int:
    """Compare what both kernels cost, and the loops; 0 if the goals are met everywhere."""
    environment = {kernel: load(kernel, PROGRAM)[0] for kernel in TREES}
    faults, dma = ({kernel: load(kernel, program)[1] for kernel in TREES}
                   for program in (PROGRAM, DMA))
    found = fault_rows(*({machine: medians(ktap) for machine, ktap in faults[kernel].items()}
                         for kernel in ("base", "patched")))
    mapped = dma_rows(*({machine: mappings(ktap) for machine, ktap in dma[kernel].items()}
                        for kernel in ("base", "patched")))
    try:
        looped, unavailable = loops((OUT / "bench/lines.txt").read_text())
    except OSError:
        fail(f"{OUT / 'bench/lines.txt'} is not there: run make bench first")
    (OUT / "bench.json").write_text(json.dumps({
        "environment": {kernel: {**known, "command": f"make bench{settings.variables()}"}
                        for kernel, known in environment.items()},
        "goals": {"fault_percent": GOAL_PERCENT, "coherent_percent": GOAL_COHERENT_PERCENT,
                  "over_bare": GOAL_BARE, "over_fenced": GOAL_FENCED},
        "results": [{**dataclasses.asdict(row), "percent": row.percent, "goal": row.goal}
                    for row in found + mapped],
        "loops": [{**dataclasses.asdict(loop), "goal": loop.goal} for loop in looped],
    }, indent=1) + "\n")
    goals = [row.goal for row in found + mapped if row.goal != "-"]
    goals += [loop.goal for loop in looped]
    say(f"""
instructions, median:

{table(found)}

goal: a fault costs at most {GOAL_PERCENT:g} % more instructions than on the base

instructions and cache lines per GiB, from less; "beyond" has the instructions for each 4K that
are not those of its lines. It is also what a lock is held longer for: pages->mutex and
domains_rwsem of IOMMUFD are held for all of a map, unmap, attach and detach:

{table(mapped)}

goals: coherent DMA ({', '.join(coherent_machines())}) costs at most
{GOAL_COHERENT_PERCENT:g} % more than on the base and maintains no line; two domains maintain as
many lines as one; beyond the lines 4K pages cost at most {GOAL_BEYOND["4K"]:g} instructions, and
2M pages {GOAL_BEYOND["2M"]:g} for each 4K, or {GOAL_BEYOND["detach pinned"]:g} where a domain
goes whose pages an access keeps pinned, as they have to be found

a process that is killed after so many percent of the time that its map takes: instructions until
it is gone, with what it had mapped, and how much of the memory was cleaned:

{killed(dma['base'], dma['patched'])}

1 GiB mapped and unmapped at once: the longest time that a real-time thread on the same CPU had to
wait, and that of a chunk, in instructions; the kernel reported no stall:

{longest(dma['base'], dma['patched'])}

the line loops on this machine:

{loop_table(looped, unavailable)}

goals: at least {GOAL_BARE:g} of a bare loop's speed, and on clean lines of more than one page at
least {GOAL_FENCED:g} times that with fences around each page

bench: {goals.count('missed')} of {len(goals)} goals missed, {goals.count('unclear')} unclear""")
    return 1 if "missed" in goals else 0


if __name__ == "__main__":
    settings.main({"measure": measure, "loops": time_loops, "report": report}, __doc__)
