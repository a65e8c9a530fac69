# SPDX-License-Identifier: GPL-2.0-only
"""What the terminal shows, and junit.xml, from a matrix.json that has one of everything."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any
from unittest import mock

import report
from results import STATUSES
from sample import MATRIX, matrix, result, row
from summary import Causes

REASON = "it says that something of which nobody has ever heard is not as it should be"


def terminal(width: int = 100, colour: bool = False) -> report.Terminal:
    found = report.Terminal()
    found.width, found.colour = width, colour
    return found


def large(machines: int = 15) -> dict[str, Any]:
    """So many machines with long names and values, of which one in five fails."""
    names = tuple(f"x86-machine-{count:05}" for count in range(machines))
    results = []
    for count, name in enumerate(names):
        bad = count % 5 == 0
        results += [result("pass", machine=name, suite=f"kvm/x86_64/{'long_' * length}test")
                    for length in range(10)]
        results += [row(f"legacy: host RAM {kind} set to WC in PTE only", name,
                        "WB,WC,UC,UC" if count % 2 else "WC,WC,WC,UC", "XX" if bad else "",
                        log=[f"{'word ' * 60}{name}"] * 40) for kind in range(10)]
        results += [result("skip", machine=name, test=f"t{kind}", reason=f"{REASON} {'x' * kind}")
                    for kind in range(5)]
    return matrix(*results, machines=names)


class Widths(unittest.TestCase):
    def test_fits(self) -> None:
        for width in (80, 100, 200):
            for one in (MATRIX, large()):
                lines = report.text(one, terminal(width)).splitlines()
                self.assertLessEqual(max(map(len, lines)), width)

    def test_name_of_a_machine_that_is_too_long(self) -> None:
        name = f"x86-{'very-' * 20}long"
        lines = report.text(matrix(result("pass", machine=name), machines=(name,)),
                            terminal(80)).splitlines()
        self.assertLessEqual(max(map(len, lines)), 80)

    def test_uses_the_width(self) -> None:
        """A wide terminal needs fewer blocks, and so fewer lines."""
        counts = [len(report.text(large(), terminal(width)).splitlines())
                  for width in (80, 100, 200)]
        self.assertEqual(counts, sorted(counts, reverse=True))
        self.assertEqual(len(set(counts)), 3)

    def test_every_machine_in_each_width(self) -> None:
        for width in (80, 100, 200):
            said = report.text(large(), terminal(width))
            for count in range(15):
                self.assertRegex(said, rf"(?m)^x86-machine-{count:05} 20 passed|"
                                       rf"^x86-machine-{count:05} 10 passed, 10 FAILED")

    def test_what_the_terminal_is(self) -> None:
        with mock.patch.dict(os.environ, {"COLUMNS": "123"}):
            self.assertEqual(report.Terminal().width, 123)
        # Standard output is no terminal here.
        with mock.patch.dict(os.environ), mock.patch("sys.__stdout__", io.StringIO()), \
                contextlib.redirect_stdout(io.StringIO()):
            os.environ.pop("COLUMNS", None)
            found = report.Terminal()
            self.assertEqual((found.width, found.colour), (100, False))

    def test_cut(self) -> None:
        self.assertEqual(terminal().cut("0123456789", 10), "0123456789")
        self.assertEqual(terminal().cut("0123456789", 6), "01…789")

    def test_command_over_several_lines(self) -> None:
        """It can be copied to a shell as it is."""
        command = "make matrix MACHINE=" + " ".join(f"A{count}=value" for count in range(30))
        said = report.text(matrix(result("fail", repeat=command)), terminal(80))
        found = said[said.index("repeat: "):].partition("  log:")[0]
        self.assertEqual(found.replace("\\\n", " ").split()[1:], command.split())


class Tables(unittest.TestCase):
    def suites(self, one: dict[str, Any]) -> list[str]:
        return report.suites(one, Causes(one["results"]), terminal())

    def types(self, one: dict[str, Any]) -> list[str]:
        return report.types(one, Causes(one["results"]), terminal())

    def test_suites(self) -> None:
        self.assertEqual(self.suites(MATRIX)[:13], [
            "a 4 passed, 1 FAILED, 2 not run,   61 s ─────┐",
            "b 1 passed, 2 FAILED,   61 s, 2 boots ───────│─────────┐",
            "s                                          2/3      skip",
            "other                                        2  FAIL 1/2",
            "s/dies                                   CRASH      HANG",
            "s/after                                      -",
            "s/last                                       -",
            "",
            "c 3 FAILED,   61 s ───────┐",
            "other                  FAIL",
            "s/dies              TIMEOUT",
            "s/after             NOT RUN",
            ""])

    def test_types(self) -> None:
        """Of two rows, the one that reads the same on all machines is left out."""
        self.assertEqual(self.types(MATRIX)[3:], [
            "other, x",
            "a ─────────────┐",
            "b ─────────────│────────┐",
            "guest WC  forced  WB ≠ WC",
            "",
            "other, y",
            "c ──────────────┐",
            "guest WC  WB ≠ WC",
            ""])

    def test_alike(self) -> None:
        said = self.types(matrix(*(row(name, machine, value) for name in ("q", "r", "t")
                                   for machine, value in (("a", "WC"), ("b", "forced")))))
        self.assertIn("q, and 2 more  WC  forced", said)

    def test_a_failure_is_not_alike(self) -> None:
        said = self.types(matrix(row("q", "a", "WC"), row("r", "a", "WC", "WB")))
        self.assertEqual([line for line in said if line[:3] in ("q  ", "r  ")], ["r  WC ≠ WB"])

    def test_no_rows(self) -> None:
        self.assertEqual(self.types(matrix(result("pass"))), [])

    def test_colours(self) -> None:
        """Each status has a colour, and what is bad has another one than what is good."""
        colours = {}
        for status in STATUSES:
            one = matrix(result(status, cause="b s t"), result("fail", machine="b"))
            said = report.text(one, terminal(colour=True))
            word = {"pass": "1", "not run": "-"}.get(
                status, status if status in ("xfail", "skip") else status.upper())
            found = re.search(rf"\033\[(\d+)m{word}\033\[0m", said)
            assert found, status
            colours[status] = found[1]
            self.assertNotIn("\033", report.text(one, terminal()))
        said = report.text(matrix(result("not run")), terminal(colour=True))
        self.assertIn("\033[31mNOT RUN\033[0m", said)
        good, bad = STATUSES[:4], STATUSES[4:]
        self.assertEqual(len({colours[status] for status in good}), 4)
        self.assertEqual({colours[status] for status in bad}, {"31"})


class Text(unittest.TestCase):
    def test_order(self) -> None:
        said = report.text({**MATRIX, "environment": {**MATRIX["environment"], "note": "NOTE"}},
                           terminal())
        places = [said.index(text) for text in (
            "guest WC  forced", "6 failures, 5 causes", "CRASH s/dies", "HANG s/dies",
            "xfail    1  no <feature> (s on a)", "skip    1  no <device> (s on b)", "NOTE",
            "report.html\n\nmatrix: ")]
        self.assertEqual(places, sorted(places))
        self.assertEqual(said.splitlines()[-1], "matrix: 5 passed, 6 failed, 1 expected failure, "
                                                "1 skipped, 2 not run")

    def test_one_cause_once(self) -> None:
        """Two machines that fail alike, and the log of one of them."""
        said = report.text(MATRIX, terminal())
        self.assertEqual(said.count("is WB, expected WC"), 1)
        self.assertEqual(said.count("& 'x'"), 1)
        self.assertIn("FAIL other guest WC\n  on b, c\n  is WB, expected WC\n", said)
        log = said[said.index("& 'x'"):].partition("  repeat: make matrix\n")[0]
        self.assertEqual(len(log.splitlines()), report.LOG_LINES)
        self.assertRegex(said, r"\n  log:    \S*/?b/console.log\n")

    def test_what_did_not_run(self) -> None:
        said = report.text(MATRIX, terminal())
        self.assertIn("CRASH s/dies\n  on a\n  Kernel panic\n  and 2 suites on a did not run\n"
                      "    <0>oops\n    end of it\n", said)
        self.assertIn("NOT RUN s/after\n  on c\n  who knows\n", said)

    def test_did_not_run_because_of_a_skip(self) -> None:
        said = report.text(matrix(result("not run", cause="a s u", reason="why"), result("pass"),
                                  result("skip", test="u", reason="no emulator")), terminal())
        self.assertIn("not run    1  why (s on a)", said)
        self.assertTrue(said.endswith("\nmatrix: 1 passed, 0 failed, 0 expected failures, "
                                      "1 skipped, 1 not run"))

    def test_end_of_a_log(self) -> None:
        log = [f"line {count}" for count in range(100)]
        for test, first, last in (("program", 80, 99), ("t", 0, 19)):
            said = report.text(matrix(result("fail", log=log, test=test)), terminal())
            self.assertIn(f"\n    line {first}\n", said)
            self.assertIn(f"\n    line {last}\n", said)
            self.assertEqual(said.count("    line "), 20)

    def test_many_failures(self) -> None:
        said = report.text(matrix(*(result("fail", test=f"t{count}", log=[f"log {count}"])
                                    for count in range(30))), terminal())
        self.assertEqual(said.count("FAIL s t"), 30)
        self.assertEqual(said.count("    log "), report.LOGS)
        self.assertEqual(said.count("    the log is in report.html\n"), 30 - report.LOGS)

    def test_same_log(self) -> None:
        """Two tests of a suite may both show how it ended."""
        said = report.text(matrix(*(result("fail", test=f"t{count}", log=["the end"])
                                    for count in range(2))), terminal())
        self.assertEqual(said.count("the end"), 1)
        self.assertIn("FAIL s t1\n  on a\n    the log is that of s t0\n", said)

    def test_many_rows(self) -> None:
        said = report.text(matrix(*(row(f"r{count}", "a", "WB", "WC") for count in range(30))),
                           terminal())
        self.assertIn("FAIL other: 30 rows\n", said)
        self.assertIn("  - other r5: a\n  - and 24 more\n", said)

    def test_exit_status(self) -> None:
        for said_to_be, code in (("pass", 0), ("pass,skip", 0), ("pass,xfail", 0), ("skip", 1),
                                 ("xfail", 1), ("pass,fail", 1), ("pass,crash", 1),
                                 ("pass,hang", 1), ("pass,timeout", 1), ("pass,not run", 1)):
            statuses = said_to_be.split(",")
            with tempfile.TemporaryDirectory() as scratch, \
                    mock.patch.object(report, "OUT", Path(scratch)), \
                    contextlib.redirect_stdout(io.StringIO()) as said:
                (Path(scratch) / "matrix.json").write_text(json.dumps(
                    matrix(*map(result, statuses))))
                self.assertEqual(report.report(), code, statuses)
                self.assertIn("matrix: ", said.getvalue().splitlines()[-1])
                self.assertTrue((Path(scratch) / "report.html").exists())
                self.assertTrue((Path(scratch) / "junit.xml").exists())


class JUnit(unittest.TestCase):
    def setUp(self) -> None:
        self.root = xml.fromstring(report.junit(MATRIX))
        self.suites = {suite.get("name"): suite for suite in self.root}

    def test_suites(self) -> None:
        self.assertEqual(list(self.suites)[:4], ["a.s", "b.s", "a.other", "b.other"])
        suite = self.suites["a.s"]
        self.assertEqual({name: suite.get(name) for name in suite.keys()}, {
            "name": "a.s", "timestamp": "2026-11-26T00:30:00", "tests": "3", "failures": "0",
            "errors": "0", "skipped": "1", "time": "1.500"})
        self.assertEqual([case.get("time") for case in suite], ["0.500"] * 3)
        self.assertEqual({case.get("file") for case in suite},
                         {"tools/testing/selftests/kvm/s.c"})
        self.assertNotIn("file", self.suites["a.other"][0].keys())

    def test_without_sources(self) -> None:
        """As matrix.json was written earlier."""
        old = {key: value for key, value in MATRIX.items() if key != "sources"}
        root = xml.fromstring(report.junit(old))
        self.assertEqual(len(root.findall(".//testcase")), len(MATRIX["results"]))
        self.assertEqual(root.findall(".//testcase[@file]"), [])

    def test_totals(self) -> None:
        totals = {name: self.root.get(name) for name in self.root.keys()}
        self.assertEqual(totals, {"name": "memtype", "tests": "15", "failures": "2",
                                  "errors": "4", "skipped": "4", "time": "16.500"})
        for name, kinds in (("tests", ["testcase"]), ("failures", ["failure"]),
                            ("errors", ["error"]), ("skipped", ["skipped"])):
            found = sum(len(self.root.findall(f".//{kind}")) for kind in kinds)
            self.assertEqual(totals[name], str(found))
            self.assertEqual(sum(int(suite.get(name, "")) for suite in self.root), found)

    def test_messages(self) -> None:
        skips = self.root.findall(".//skipped")
        self.assertEqual([skip.text for skip in skips], [skip.get("message") for skip in skips])
        self.assertEqual([skip.get("message") for skip in skips],
                         ["expected failure: no <feature>", "no <device>",
                          "did not run: a s/dies program", "did not run: a s/dies program"])
        self.assertEqual([(error.get("type"), error.get("message"))
                          for error in self.root.findall(".//error")],
                         [("crash", "Kernel panic"), ("hang", "silent"),
                          ("timeout", "over its limit of 60 s"), ("not run", "who knows")])

    def test_log_once(self) -> None:
        first, second = self.root.findall(".//failure")
        self.assertIn("<script>?[0m & 'x'\nline 0 of the log", first.text or "")
        self.assertEqual(second.text,
                         f"{second.get('message')}\nas b other guest WC, where the log is")
        for failure in first, second:
            self.assertTrue((failure.text or "").startswith(f"{failure.get('message')}\n"))


if __name__ == "__main__":
    unittest.main()
