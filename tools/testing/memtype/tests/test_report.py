# SPDX-License-Identifier: GPL-2.0-only
"""The reports, from a matrix.json that has one of everything."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import tempfile
import unittest
import xml.etree.ElementTree as xml
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import report


def result(status: str, **values: Any) -> dict[str, Any]:
    return {"machine": "a", "suite": "s", "test": "t", "row": "s", "status": status, "value": "",
            "expected": "", "seconds": 1.5, "reason": "", "log": [], "repeat": "make matrix",
            **values}


MATRIX: dict[str, Any] = {
    "environment": {"kernel": "6.12", "commit": "c0ffee", "note": "", "tools": {"gcc": "12"}},
    "machines": {name: {"arch": "x", "emulator": "qemu", "proves": "p", "proves_not": "n"}
                 for name in ("a", "b")},
    "proofs": {"s": {"proves": "order", "proves_not": "<instructions>"}},
    "suites": ["s", "other"],
    "results": [
        result("pass"), result("pass", test="u"),
        result("skip", machine="b", reason="no <device>"),
        result("pass", suite="other", row="guest WC", value="forced", expected="forced"),
        result("fail", suite="other", row="guest WC", value="WB", expected="WC", machine="b",
               reason="is WB, expected WC", log=["<script>\x1b[0m & 'x'"] * 300),
    ],
}


class Tags(HTMLParser):
    """Collects tags and text, and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class Report(unittest.TestCase):
    def test_cells(self) -> None:
        rows = report.rows(MATRIX)
        self.assertEqual([(row, {name: cell.text for name, cell in cells.items()})
                          for row, cells in rows],
                         [("s", {"a": "pass 2", "b": "skip"}),
                          ("guest WC", {"a": "forced", "b": "WB ≠ WC"})])

    def test_same_row_in_two_suites(self) -> None:
        matrix = {**MATRIX, "results": [result("fail", row="r"),
                                        result("pass", row="r", suite="other")]}
        self.assertEqual([cells["a"].status for _, cells in report.rows(matrix)],
                         ["fail", "pass"])

    def test_exit_status(self) -> None:
        for status, code in (("pass", 0), ("skip", 0), ("fail", 1), ("crash", 1), ("none", 1),
                             ("timeout", 1)):
            matrix = {**MATRIX, "results": [result("pass"), result(status, reason="r")]}
            with tempfile.TemporaryDirectory() as scratch, \
                    mock.patch.object(report, "OUT", Path(scratch)), \
                    contextlib.redirect_stdout(io.StringIO()):
                (Path(scratch) / "matrix.json").write_text(json.dumps(matrix))
                self.assertEqual(report.report(), code, status)

    def test_worst_wins(self) -> None:
        for status in ("fail", "crash", "timeout", "none"):
            cell = report.cell([result("pass"), result("skip"), result(status)])
            self.assertEqual((cell.status, cell.text), (status, f"{status.upper()} 1/3"))

    def test_counts(self) -> None:
        self.assertEqual(report.counts(MATRIX["results"]), (3, 1, 1))

    def test_table(self) -> None:
        text = report.table(MATRIX, colour=False)
        self.assertIn("guest WC  forced  WB ≠ WC", text)
        self.assertNotIn("\033", text)
        self.assertIn("\033[31mWB", report.table(MATRIX, colour=True))

    def test_details(self) -> None:
        text = report.details(MATRIX)
        self.assertIn("FAIL b other t: is WB, expected WC", text)
        self.assertIn("repeat: make matrix", text)
        self.assertIn("skip b s t: no <device>", text)

    def test_page(self) -> None:
        page = report.page(MATRIX)
        tags = Tags()
        tags.feed(page)
        self.assertEqual(tags.open, [])
        self.assertNotIn("script", tags.seen)
        self.assertNotIn("device>", page.replace("&gt;", ""))
        self.assertEqual(page.count("&lt;script&gt;"), 200)
        self.assertNotIn("http", page)
        self.assertIn("<td>order</td><td>&lt;instructions&gt;</td>", page)

    def test_junit(self) -> None:
        root = xml.fromstring(report.junit(MATRIX))
        suites = {suite.get("name"): suite for suite in root}
        self.assertEqual(set(suites), {"a.s", "b.s", "a.other", "b.other"})
        self.assertEqual(suites["b.other"].get("failures"), "1")
        self.assertEqual(suites["b.s"].get("skipped"), "1")
        self.assertEqual(len(root.findall(".//failure")), 1)

    def test_junit_errors(self) -> None:
        matrix = copy.deepcopy(MATRIX)
        for one in matrix["results"]:
            one["status"] = "timeout"
        root = xml.fromstring(report.junit(matrix))
        self.assertEqual(sum(int(suite.get("errors", "0")) for suite in root), 5)


if __name__ == "__main__":
    unittest.main()
