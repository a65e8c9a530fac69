# SPDX-License-Identifier: GPL-2.0-only
"""`make bench`: instructions per second-stage fault and per query, base against patched.

The emulators count: QEMU's virtual time advances by one tick per instruction under -icount, and
Bochs's TSC does so by itself. memtype_bench checks that on each machine, by a loop of known length.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import data
import matrix
import report as matrix_report
import settings
from console import PASS, SKIP, Test
from settings import CONFIG, KERNEL, OUT, TREES, fail, say

PROGRAM = "kvm/memtype_bench"
MACHINES = ("x86-amd", "x86-intel", "arm64-fwb", "arm64-nofwb")
# What it measures, and whether the base has it too.
MEASURED = {"4K-fault": True, "2M-fault": True, "query": False}
# How much more a fault may cost.
GOAL_PERCENT = 1.0
LINE = re.compile(r"^# memtype-bench: what=(\S+) median=(\d+) unit=(\S+) of=\d+$", re.M)
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
    base: int | None
    patched: int

    @property
    def percent(self) -> float | None:
        return None if self.base is None else 100 * (self.patched - self.base) / self.base

    @property
    def goal(self) -> str:
        """Only faults have one."""
        if self.percent is None:
            return "-"
        return "met" if self.percent <= GOAL_PERCENT else "missed"


def counting(item: data.Machine) -> data.Machine:
    """The machine with a counter that counts instructions."""
    command = " ".join(item.command.split())
    for pattern, counted in COUNTING:
        command = re.sub(pattern, counted, command)
    return dataclasses.replace(item, command=command)


def measure() -> None:
    """Runs the program on the kernel of KERNEL=."""
    if CONFIG:
        fail("make bench measures what users get: without CONFIG=")
    machines = {name: counting(item) for name, item in data.select()[0].items()
                if name in MACHINES}
    if not machines:
        fail(f"make bench runs on {', '.join(MACHINES)}")
    out = OUT / "bench" / KERNEL
    test = Test(PROGRAM, list(machines), timeout=300, program=PROGRAM)
    ran = matrix.run_matrix(machines, [test], out, [Path(PROGRAM)])
    problems = [f"{matrix_report.name_of(result)}: {result['status']} {result['reason']}\n"
                f"  log: {out / result['machine'] / 'console.log'}"
                for result in ran["results"] if result["status"] not in (PASS, SKIP)]
    if problems:
        fail("\n".join(problems))


def medians(ktap: str) -> dict[str, int]:
    """What was measured → instructions, from the output of the program."""
    found = {}
    for what, median, unit in LINE.findall(ktap):
        if unit != "instructions":
            fail(f"{what}: the machine counts {unit}, not instructions")
        found[what] = int(median)
    return found


def rows(base: dict[str, dict[str, int]], patched: dict[str, dict[str, int]]) -> list[Row]:
    """The table, from machine → what → instructions of each kernel."""
    for kernel, machines in (("base", base), ("patched", patched)):
        for machine in patched:
            missing = [what for what, on_base in MEASURED.items()
                       if what not in machines.get(machine, {})
                       and (on_base or kernel == "patched")]
            if missing:
                fail(f"{machine}: nothing measured of {', '.join(missing)} with KERNEL={kernel}")
    return [Row(machine, what, base[machine].get(what), found[what])
            for machine, found in patched.items() for what in MEASURED]


def table(found: list[Row]) -> str:
    lines = [("machine", "what", "base", "patched", "difference %", "goal")]
    lines += [(row.machine, row.what.replace("-", " "), "-" if row.base is None else str(row.base),
               str(row.patched), "-" if row.percent is None else f"{row.percent:+.2f}", row.goal)
              for row in found]
    return settings.columns(lines)


def load(kernel: str) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """The environment of one kernel's run, and machine → what → instructions."""
    out = OUT / "bench" / kernel
    ran = matrix_report.load(out)
    name = f"{PROGRAM.replace('/', '.')}.ktap"
    return ran["environment"], {machine: medians((out / machine / name).read_text())
                                for machine in ran["machines"]}


def report() -> int:
    """Compares what both kernels cost; 0 if the goal is met everywhere."""
    runs = {kernel: load(kernel) for kernel in TREES}
    found = rows(runs["base"][1], runs["patched"][1])
    (OUT / "bench.json").write_text(json.dumps({
        "environment": {kernel: {**environment, "command": f"make bench{settings.variables()}"}
                        for kernel, (environment, _) in runs.items()},
        "goal_percent": GOAL_PERCENT,
        "results": [{**dataclasses.asdict(row), "percent": row.percent, "goal": row.goal}
                    for row in found],
    }, indent=1) + "\n")
    missed = sum(row.goal == "missed" for row in found)
    say(f"\ninstructions, median:\n\n{table(found)}\n\n"
        f"goal: a fault costs at most {GOAL_PERCENT:g} % more instructions than on the base\n"
        f"bench: {missed} of {sum(MEASURED[row.what] for row in found)} faults miss the goal")
    return 1 if missed else 0


if __name__ == "__main__":
    settings.main({"measure": measure, "report": report})
