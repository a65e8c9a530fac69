# SPDX-License-Identifier: GPL-2.0-only
"""make bench, on what memtype_bench printed; the machines are the real ones."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import bench
import data
from settings import HERE, Error

KTAP = (HERE / "tests/logs/bench.ktap").read_text()
FOUND = bench.medians(KTAP)


class Machines(unittest.TestCase):
    def test_they_count_instructions(self) -> None:
        for name, item in data.all_machines().items():
            if name not in bench.MACHINES:
                continue
            words = bench.counting(item).command.split()
            if item.emulator == "bochs":
                self.assertIn("clock: sync=none", item.bochsrc)
                self.assertEqual(bench.counting(item).bochsrc, item.bochsrc)
                continue
            pairs = list(zip(words, words[1:]))
            self.assertIn(("-smp", "1"), pairs)
            self.assertIn(("-accel", "tcg,thread=single"), pairs)
            self.assertIn(("-icount", "shift=0,sleep=off"), pairs)
            cpu = words[words.index("-cpu") + 1]
            self.assertEqual(cpu.endswith(",cntfrq=1000000000"), item.arch == "arm64", cpu)

    def test_all_are_there(self) -> None:
        self.assertLessEqual(set(bench.MACHINES), set(data.all_machines()))


class Medians(unittest.TestCase):
    def test_recorded(self) -> None:
        self.assertEqual(set(FOUND), set(bench.MEASURED))
        self.assertTrue(all(value > 100 for value in FOUND.values()))

    def test_on_the_base_there_is_no_query(self) -> None:
        self.assertEqual(set(bench.medians(KTAP.replace("what=query", ""))),
                         {"4K-fault", "2M-fault"})

    def test_other_units_are_refused(self) -> None:
        with self.assertRaisesRegex(Error, "query: the machine counts ticks"):
            bench.medians(KTAP.replace("unit=instructions", "unit=ticks", 1))


class Report(unittest.TestCase):
    def rows(self, base: dict[str, int], patched: dict[str, int]) -> list[bench.Row]:
        return bench.rows({"m": base}, {"m": patched})

    def test_goal(self) -> None:
        rows = self.rows({"4K-fault": 1000, "2M-fault": 1000},
                         {"4K-fault": 1010, "2M-fault": 1011, "query": 5})
        self.assertEqual([(row.what, row.percent, row.goal) for row in rows],
                         [("4K-fault", 1.0, "met"), ("2M-fault", 1.1, "missed"),
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
            bench.rows({}, {"m": FOUND})

    def report(self, base: str, patched: str) -> tuple[int, str]:
        """Exit status and output for the KTAP of the two kernels."""
        with tempfile.TemporaryDirectory() as scratch:
            for kernel, ktap in (("base", base), ("patched", patched)):
                out = Path(scratch) / "bench" / kernel
                (out / "m").mkdir(parents=True)
                (out / "m/kvm.memtype_bench.ktap").write_text(ktap)
                (out / "matrix.json").write_text(json.dumps(
                    {"environment": {}, "machines": {"m": {}}}))
            with mock.patch.object(bench, "OUT", Path(scratch)), \
                    contextlib.redirect_stdout(io.StringIO()) as said:
                code = bench.report()
            results = json.loads((Path(scratch) / "bench.json").read_text())["results"]
        self.assertEqual([result["what"] for result in results], list(bench.MEASURED))
        return code, said.getvalue()

    def test_exit_status(self) -> None:
        code, said = self.report(KTAP, KTAP)
        self.assertEqual(code, 0)
        self.assertIn("0 of 2 faults miss the goal", said)
        dearer = KTAP.replace(f"what=4K-fault median={FOUND['4K-fault']}",
                              f"what=4K-fault median={2 * FOUND['4K-fault']}")
        code, said = self.report(KTAP, dearer)
        self.assertEqual(code, 1)
        self.assertIn("+100.00", said)


if __name__ == "__main__":
    unittest.main()
