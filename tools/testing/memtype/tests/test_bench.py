# SPDX-License-Identifier: GPL-2.0-only
"""make bench, on what memtype_bench printed; the machines are the real ones."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import bench
import tables
import settings
from settings import HERE, REPO, Error

LOGS = HERE / "tests/logs"
FAULTS, DMA = (LOGS / "bench.ktap").read_text(), (LOGS / "bench-dma.ktap").read_text()
LOOPS = (LOGS / "bench-loops.txt").read_text()
FOUND, MAPPED = bench.medians(FAULTS), bench.mappings(DMA)
# As where nothing is maintained
NOTHING = re.sub(r"(cleaned|flushed)=\d+", r"\1=0", DMA)


class Machines(unittest.TestCase):
    def test_they_count_instructions(self) -> None:
        found = bench.machines()
        self.assertTrue(found)
        for name, item in found.items():
            words = item.command.split()
            if item.emulator == "bochs":
                self.assertIn("clock: sync=none", item.bochsrc)
                self.assertEqual(tables.all_machines()[name].bochsrc, item.bochsrc)
                continue
            pairs = list(zip(words, words[1:]))
            self.assertIn(("-smp", "1"), pairs)
            self.assertIn(("-accel", "tcg,thread=single"), pairs)
            self.assertIn(("-icount", "shift=0,sleep=off"), pairs)
            cpu = words[words.index("-cpu") + 1]
            self.assertEqual(cpu.endswith(",cntfrq=1000000000"), item.arch == "arm64", cpu)

    def test_enforcing(self) -> None:
        for item in bench.machines().values():
            if bench.DMA in item.bench and item.arch == "x86_64":
                self.assertIn(f"snoop-control={'on' if item.coherent else 'off'}", item.command)

    def test_noncoherent_arm64(self) -> None:
        for item in bench.machines().values():
            if bench.DMA in item.bench and item.arch == "arm64":
                self.assertNotEqual("dma_cache=on" in item.cmdline.split(), item.coherent)

    def test_machine_chooses(self) -> None:
        with mock.patch.object(settings, "MACHINE", "x86-amd"):
            self.assertEqual(set(bench.machines()), {"x86-amd"})


class Programs(unittest.TestCase):
    def test_recorded_faults(self) -> None:
        self.assertEqual(set(FOUND), set(bench.MEASURED))
        self.assertTrue(all(value > 100 for value in FOUND.values()))

    def test_on_the_base_there_is_no_query(self) -> None:
        self.assertEqual(set(bench.medians(FAULTS.replace("what=query", ""))),
                         {"4K-fault", "2M-fault"})

    def test_recorded_mappings(self) -> None:
        self.assertEqual(set(MAPPED), set(bench.MAPPED))
        self.assertEqual({cost.lines for cost in MAPPED.values()}, {(1 << 30) // 64})

    def test_other_units_are_refused(self) -> None:
        with self.assertRaisesRegex(Error, "query: the machine counts ticks"):
            bench.medians(FAULTS.replace("unit=instructions", "unit=ticks", 1))
        nanoseconds = DMA.replace("unit=instructions", "unit=ns")
        with self.assertRaisesRegex(Error, "4K, 1 domain: the machine counts ns"):
            bench.mappings(nanoseconds)
        with self.assertRaisesRegex(Error, "longest stretch: the machine counts ns"):
            bench.longest({"m": DMA}, {"m": nanoseconds})
        with self.assertRaisesRegex(Error, "killed process: the machine counts ns"):
            bench.killed({"m": DMA}, {"m": nanoseconds})

    def test_killed(self) -> None:
        lines = bench.killed({"m": NOTHING}, {"m": DMA}).splitlines()
        self.assertEqual(len(lines), 1 + DMA.count("memtype-dma-killed:"))
        self.assertEqual({tuple(line.split()[1:3]) for line in lines[1:]},
                         {(space, size) for space in ("iommufd", "type1") for size in "18"})

    def test_longest(self) -> None:
        self.assertEqual(len(bench.longest({"m": NOTHING}, {"m": DMA}).splitlines()), 3)

    def test_loops(self) -> None:
        found, unavailable = bench.loops(LOOPS)
        self.assertEqual({(loop.insn, loop.lines) for loop in found},
                         {(insn, lines) for insn in ("CLFLUSH", "CLFLUSHOPT", "CLWB")
                          for lines in ("clean", "dirty")})
        self.assertEqual(unavailable, [])
        older = re.sub("(memtype-lines: insn=CLWB) .*", r"\1 unavailable", LOOPS)
        found, unavailable = bench.loops(older)
        self.assertIn("CLWB: this CPU does not have it", bench.loop_table(found, unavailable))
        self.assertNotIn("CLWB", {loop.insn for loop in found})
        with self.assertRaisesRegex(Error, "nothing measured of the line loops"):
            bench.loops("")

    def test_the_kernel_names_its_chunk(self) -> None:
        self.assertRegex((REPO / "mm/dma_cache.c").read_text(), bench.CHUNK)


class Goals(unittest.TestCase):
    def rows(self, base: dict[str, int], patched: dict[str, int]) -> list[bench.Row]:
        return bench.fault_rows({"m": base}, {"m": patched})

    def test_faults(self) -> None:
        rows = self.rows({"4K-fault": 1000, "2M-fault": 1000},
                         {"4K-fault": 1010, "2M-fault": 1011, "query": 5})
        self.assertEqual([(row.what, row.percent, row.goal) for row in rows],
                         [("4K fault", 1.0, "met"), ("2M fault", 1.1, "missed"),
                          ("query", None, "-")])
        self.assertEqual(bench.table(rows).splitlines()[1:], [
            "m        4K fault  1000  1010     +1.00         met",
            "m        2M fault  1000  1011     +1.10         missed",
            "m        query     -     5        -             -"])

    def test_what_was_not_measured(self) -> None:
        with self.assertRaisesRegex(Error, "m: nothing measured of 2M-fault with KERNEL=base"):
            self.rows({"4K-fault": 1}, FOUND)
        with self.assertRaisesRegex(Error, "m: nothing measured of query with KERNEL=patched"):
            self.rows(FOUND, {"4K-fault": 1, "2M-fault": 1})
        with self.assertRaisesRegex(Error, "nothing measured of 4K-fault, 2M-fault with"):
            bench.fault_rows({}, {"m": FOUND})
        with self.assertRaisesRegex(Error, "m: not all DMA was measured with KERNEL=base"):
            bench.dma_rows({"m": {}}, {"m": MAPPED})

    def goals(self, machine: str, what: str, instructions: int, lines: int | None = None
              ) -> set[str]:
        """Of a machine on which something costs other than anything else, or than on the base."""
        base = {key: bench.Cost(1 << 20, 0) for key in bench.MAPPED}
        cost = bench.Cost(1 << 20, 0 if machine in bench.coherent_machines() else 64)
        changed = bench.Cost((1 << 20) + instructions, cost.lines if lines is None else lines)
        rows = bench.dma_rows({machine: base},
                              {machine: {**dict.fromkeys(bench.MAPPED, cost), what: changed}})
        return {row.what for row in rows if row.goal == "missed"}

    def test_coherent_dma(self) -> None:
        name = bench.coherent_machines()[0]
        self.assertEqual(self.goals(name, "map 4K, 2 domains", 5200), set())
        self.assertEqual(self.goals(name, "map 4K, 2 domains", 5300), {"map 4K, 2 domains"})
        self.assertEqual(self.goals(name, "detach 2M", 0, 1), {"detach 2M"})

    def test_noncoherent_dma(self) -> None:
        pages = 1 << 18
        for what, beyond in (("map 4K, 1 domain", 72), ("attach 4K", 72), ("unmap 2M, 1 domain", 1),
                             ("detach pinned 2M", 60), ("detach pinned 4K", 60)):
            with self.subTest(what):
                self.assertEqual(self.goals("x86-amd", what, beyond * pages), set())
                self.assertEqual(self.goals("x86-amd", what, (beyond + 1) * pages), {what})
        lines = 7 * 16 * pages
        self.assertEqual(self.goals("x86-amd", "attach 4K", lines, 64 * pages), set())
        self.assertEqual(self.goals("x86-amd", "map 4K, 2 domains", 0, 128), {"map 4K, 2 domains"})
        self.assertEqual(self.goals("x86-amd", "unmap 4K, 2 domains", 0, 65),
                         {"unmap 4K, 2 domains"})
        with self.assertRaisesRegex(Error, "x86-amd: map 4K, 1 domain: no cache line was maint"):
            bench.dma_rows({"x86-amd": MAPPED}, {"x86-amd": bench.mappings(NOTHING)})

    def test_loops(self) -> None:
        for values, lines, size, goal in (
                ((0.96, 0.01, 1.4, 0.01), "clean", 65536, "met"),
                ((0.96, 0.01, 1.2, 0.01), "clean", 65536, "missed"),
                ((0.96, 0.01, 1.2, 0.01), "dirty", 65536, "met"),
                ((0.96, 0.01, 1.0, 0.01), "clean", 4096, "met"),
                ((0.94, 0.01, 1.4, 0.01), "clean", 65536, "unclear"),
                ((0.92, 0.01, 1.4, 0.01), "clean", 65536, "missed")):
            loop = bench.Loop("CLWB", lines, size, 1.0, 1.0, 1.0, *values)
            self.assertEqual(loop.goal, goal, loop)


class Report(unittest.TestCase):
    def report(self, base: str, patched: str, loops: str = LOOPS) -> tuple[int, str]:
        """Exit status and output for the outputs of PROGRAM on the two kernels."""
        with tempfile.TemporaryDirectory() as scratch:
            for kernel, ktap in (("base", base), ("patched", patched)):
                out = Path(scratch) / "bench" / kernel
                (out / "x86-amd").mkdir(parents=True)
                (out / "x86-amd/kvm.memtype_bench.ktap").write_text(ktap)
                (out / "x86-amd/iommu.dma_cache_bench.ktap").write_text(
                    DMA if kernel == "patched" else NOTHING)
                (out / "matrix.json").write_text(json.dumps(
                    {"environment": {}, "machines": {"x86-amd": {}}}))
            (Path(scratch) / "bench/lines.txt").write_text(loops)
            with mock.patch.object(bench, "OUT", Path(scratch)), \
                    contextlib.redirect_stdout(io.StringIO()) as said:
                code = bench.report()
            results = json.loads((Path(scratch) / "bench.json").read_text())["results"]
        self.assertEqual(len(results), len(bench.MEASURED) + len(bench.MAPPED))
        return code, said.getvalue()

    def test_exit_status(self) -> None:
        code, said = self.report(FAULTS, FAULTS)
        self.assertEqual(code, 0)
        self.assertIn(" 0 of ", said)
        dearer = FAULTS.replace(f"what=4K-fault median={FOUND['4K-fault']}",
                                f"what=4K-fault median={2 * FOUND['4K-fault']}")
        code, said = self.report(FAULTS, dearer)
        self.assertEqual(code, 1)
        self.assertIn("+100.00", said)
        self.assertIn(" 1 of ", said)
        slower = re.sub(r"over-bare=\S+", "over-bare=0.5", LOOPS, count=1)
        self.assertEqual(self.report(FAULTS, FAULTS, slower)[0], 1)


if __name__ == "__main__":
    unittest.main()
