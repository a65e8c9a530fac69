# SPDX-License-Identifier: GPL-2.0-only
"""What results come to: counts, causes, cells."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any

import settings
import summary
from results import STATUSES
from sample import MATRIX, matrix, result, row
from summary import Causes, Counts


def splat(machine: str, number: int, **values: Any) -> dict[str, Any]:
    return result("fail", machine=machine, test="kernel log", log=["a trace"], **{
        "reason": f"WARNING: CPU: {number} PID: {number}7 at mm/file.c:12 f+0x{number}/0x40 on "
                  f"{machine}", **values})


class Count(unittest.TestCase):
    def test_everything(self) -> None:
        self.assertEqual(summary.counts(MATRIX["results"]),
                         Counts(passed=5, failed=6, xfailed=1, skipped=1, not_run=2))

    def test_each_result_counts_once(self) -> None:
        for status in STATUSES:
            for cause in ("", "a s cause", "a s t"):
                found = [result(status, cause=cause), result("crash", test="cause")]
                total = summary.counts(found)
                self.assertEqual(total.passed + total.failed + total.xfailed + total.skipped
                                 + total.not_run, 2, status)
                self.assertFalse(total.good())

    def test_not_run(self) -> None:
        for status, failed in (("fail", 1), ("crash", 1), ("hang", 1), ("timeout", 1), ("skip", 0),
                               ("pass", 1), ("xfail", 1)):
            # A cause that passed explains nothing: then it is what did not run that failed.
            found = [result("not run", cause="a s u"), result(status, test="u")]
            self.assertEqual(summary.counts(found).failed, failed, status)
        self.assertEqual(summary.counts([result("not run", cause="a s u")]).failed, 1)
        self.assertEqual(summary.counts([result("not run", cause="a s t")]).failed, 1)

    def test_cause_of_a_cause(self) -> None:
        found = [result("not run", cause="a s u"), result("not run", test="u", cause="a s v"),
                 result("hang", test="v")]
        self.assertEqual(summary.counts(found), Counts(0, 1, 0, 0, 2))
        self.assertEqual(len(summary.failures(found)[0].victims), 2)

    def test_cause_with_a_name_that_is_there_twice(self) -> None:
        found = [result("not run", cause="a s u"), result("crash", test="u"),
                 result("pass", test="u")]
        self.assertEqual(summary.counts(found), Counts(1, 1, 0, 0, 1))

    def test_good(self) -> None:
        self.assertTrue(Counts(1, 0, 1, 1, 1).good())
        self.assertFalse(Counts(1, 1, 0, 0, 0).good())
        self.assertFalse(Counts(0, 0, 1, 1, 0).good())

    def test_nothing_there(self) -> None:
        with tempfile.TemporaryDirectory() as scratch, self.assertRaises(settings.Error):
            summary.load(Path(scratch))


class Failures(unittest.TestCase):
    def titles(self, *results: dict[str, Any]) -> list[tuple[str, list[str]]]:
        return [(one.title(), one.machines) for one in summary.failures(list(results))]

    def test_same_on_two_machines(self) -> None:
        self.assertEqual(self.titles(result("fail", reason="a: 3 at 0x1f"),
                                     result("fail", reason="b: 4 at 0x2c", machine="b")),
                         [("s t", ["a", "b"])])

    def test_other_reason_test_or_suite(self) -> None:
        for values in ({"reason": "q"}, {"test": "u"}, {"suite": "other"}):
            self.assertEqual(len(self.titles(result("fail", reason="r"), result(
                "fail", **{"reason": "r", "machine": "b", **values}))), 2, values)

    def test_kernel_log(self) -> None:
        names = ["x86-amd", "x86-amd-count", "x86-intel", "arm64-fwb"]
        self.assertEqual(self.titles(*(splat(machine, number)
                                       for number, machine in enumerate(names))),
                         [("s kernel log", names)])
        self.assertEqual(self.titles(splat("a", 1), splat("b", 2, suite="other")),
                         [("2 suites: kernel log", ["a", "b"])])
        self.assertEqual(len(self.titles(splat("a", 1), splat(
            "a", 1, reason="WARNING: CPU: 1 PID: 17 at mm/file.c:13 f+0x1/0x40 on a"))), 2)

    def test_rows_that_read_the_same(self) -> None:
        found = summary.failures([row("r", "a", "WB", "WC"), row("q", "a", "WB", "WC"),
                                  row("q", "b", "WB", "WC"), row("q", "b", "WB", "UC")])
        self.assertEqual([one.title() for one in found], ["other: 2 rows", "other q"])
        self.assertEqual(found[0].rows(), {"other r": ["a"], "other q": ["a", "b"]})
        self.assertEqual(found[1].rows(), {})

    def test_tests_without_a_result(self) -> None:
        self.assertEqual(self.titles(*(result("crash", test=test, reason="no result line")
                                       for test in ("t", "u"))), [("s: 2 tests", ["a"])])

    def test_victims(self) -> None:
        crash = summary.failures(MATRIX["results"])[0]
        self.assertEqual((crash.title(), crash.status), ("s/dies", "crash"))
        self.assertEqual(crash.consequences(), "2 suites on a")

    def test_without_a_cause(self) -> None:
        """What did not run for one reason is one failure, however many suites it is."""
        self.assertEqual(self.titles(*(result("not run", suite=suite, test="program", reason="why")
                                       for suite in ("s", "other"))), [("2 suites", ["a"])])

    def test_log(self) -> None:
        one = summary.failures([result("fail"), result("fail", machine="b", log=["x"])])[0]
        self.assertEqual(one.first["machine"], "b")

    def test_all_are_there(self) -> None:
        found = summary.failures(MATRIX["results"])
        self.assertEqual(sum(len(one.results) for one in found), 6)
        self.assertEqual(len(found), 5)


class Cells(unittest.TestCase):
    def suite(self, *results: dict[str, Any]) -> tuple[str, str]:
        cell = summary.suite_cell(list(results), Causes(list(results)))
        return cell.status, cell.text

    def test_suite(self) -> None:
        self.assertEqual(self.suite(result("pass"), result("pass")), ("pass", "2"))
        self.assertEqual(self.suite(result("pass"), result("skip")), ("pass", "1/2"))
        self.assertEqual(self.suite(result("pass"), result("xfail")), ("pass", "1/2"))
        self.assertEqual(self.suite(result("xfail"), result("skip")), ("skip", "skip"))
        self.assertEqual(self.suite(result("fail"), result("crash"), result("pass")),
                         ("crash", "fail 2/3"))
        for status in ("fail", "crash", "hang", "timeout", "not run"):
            self.assertEqual(self.suite(result(status)), (status, status))
            self.assertEqual(self.suite(result("pass"), result("skip"), result(status)),
                             (status, f"{status} 1/3"))

    def test_suite_that_did_not_run(self) -> None:
        found = [result("not run", cause="a s u"), result("crash", test="u")]
        cell = summary.suite_cell(found[:1], Causes(found))
        self.assertEqual((cell.status, cell.text), ("not run", "not run"))

    def test_row(self) -> None:
        def read(one: dict[str, Any]) -> tuple[str, str]:
            cell = summary.row_cell([one], Causes([one]))
            return cell.status, cell.text

        self.assertEqual(read(row("r", "a", "WC")), ("pass", "WC"))
        self.assertEqual(read(row("r", "a", "WB", "WC")), ("fail", "WB ≠ WC"))
        self.assertEqual(read({**row("r", "a", "WB", "WC"), "expected": ""}),
                         ("fail", "WB ≠ none"))
        self.assertEqual(read(result("fail", row="r", expected="WC")), ("fail", "fail"))

    def test_rows_of_each_suite(self) -> None:
        """A row may have the name of another suite's row."""
        found = summary.by_suite(matrix(row("r", "a", "WC"),
                                        {**row("r", "a", "WB", "WC"), "suite": "s"}))
        self.assertEqual({suite: [one["value"] for one in summary.type_rows(results)["r"]]
                          for suite, results in found.items()}, {"s": ["WB"], "other": ["WC"]})

    def test_table(self) -> None:
        rows: dict[str, list[dict[str, Any]]] = {
            "q": [row("q", "b", "UC")], "r": [row("r", "c", "WC")], "none": []}
        found = summary.table(["a", "b"], rows, lambda results: summary.row_cell(
            results, Causes(results)))
        self.assertEqual((found.machines, found.rows, list(found.cells)),
                         (["b"], ["q"], [("q", "b")]))

    def test_folded(self) -> None:
        """Reasons that differ in numbers alone are one."""
        found = summary.folded([result("skip", reason=reason) for reason in
                                ("other", "needs 4 CPUs", "needs 8 CPUs")])
        self.assertEqual([len(same) for same in found], [2, 1])
        self.assertEqual(summary.where(found[0]), "s on a")
        self.assertEqual(summary.where([result("skip", machine=name, suite=name)
                                        for name in "abcde"]), "5 suites on 5 machines")


if __name__ == "__main__":
    unittest.main()
