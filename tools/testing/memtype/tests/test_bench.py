# SPDX-License-Identifier: GPL-2.0-only
"""make bench, on what memtype_bench printed; the machines are the real ones."""

from __future__ import annotations

import contextlib
import dataclasses
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
        self.assertEqual({cost.cleaned for cost in MAPPED.values()}, {(1 << 30) // 64})

    def test_other_units_are_refused(self) -> None:
        with self.assertRaisesRegex(Error, "query: the machine counts ticks"):
            bench.medians(FAULTS.replace("unit=instructions", "unit=ticks", 1))
        nanoseconds = DMA.replace("unit=instructions", "unit=ns")
        with self.assertRaisesRegex(Error, "4K, 1 domains: the machine counts ns"):
            bench.mappings(nanoseconds)
        with self.assertRaisesRegex(Error, "longest stretch: the machine counts ns"):
            bench.longest({"m": DMA}, {"m": nanoseconds})

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

    def goals(self, machine: str, change: dict[str, int]) -> set[str]:
        """Of a machine on which mapping 4K pages in two domains costs what `change` says."""
        base = {key: bench.Mapping(1000, 1000, 0, 0) for key in bench.MAPPED}
        lines = 0 if machine in bench.coherent_machines() else 64
        costs = {key: bench.Mapping(1000, 1000, lines, lines) for key in bench.MAPPED}
        costs["4K", 2] = dataclasses.replace(costs["4K", 2], **change)
        rows = bench.dma_rows({machine: base}, {machine: costs})
        return {row.what for row in rows if row.goal == "missed"}

    def test_coherent_dma(self) -> None:
        name = bench.coherent_machines()[0]
        self.assertEqual(self.goals(name, {"map": 1005, "unmap": 1006}), {"unmap 4K, 2 domains"})
        self.assertEqual(self.goals(name, {"cleaned": 1}), {"map 4K, 2 domains"})

    def test_noncoherent_dma(self) -> None:
        self.assertEqual(self.goals("m", {"map": 5000}), set())
        self.assertEqual(self.goals("m", {"cleaned": 128}), {"map 4K, 2 domains"})
        self.assertEqual(self.goals("m", {"flushed": 0}), {"unmap 4K, 2 domains"})
        rows = bench.dma_rows({"m": MAPPED}, {"m": MAPPED})
        self.assertEqual([row.goal for row in rows], ["-", "-", "met", "met"] * 2)
        with self.assertRaisesRegex(Error, "m: no cache line was maintained"):
            bench.dma_rows({"m": MAPPED}, {"m": bench.mappings(NOTHING)})

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
                (out / "m").mkdir(parents=True)
                (out / "m/kvm.memtype_bench.ktap").write_text(ktap)
                (out / "m/iommu.dma_cache_bench.ktap").write_text(
                    DMA if kernel == "patched" else NOTHING)
                (out / "matrix.json").write_text(json.dumps(
                    {"environment": {}, "machines": {"m": {}}}))
            (Path(scratch) / "bench/lines.txt").write_text(loops)
            with mock.patch.object(bench, "OUT", Path(scratch)), \
                    contextlib.redirect_stdout(io.StringIO()) as said:
                code = bench.report()
            results = json.loads((Path(scratch) / "bench.json").read_text())["results"]
        self.assertEqual(len(results), len(bench.MEASURED) + 2 * len(bench.MAPPED))
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
