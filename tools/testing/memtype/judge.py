# SPDX-License-Identifier: GPL-2.0-only
"""From the console log of one boot to test results.

A segment of KTAP goes through the kernel's own parser (tools/testing/kunit/kunit_parser.py), one at
a time, since that locks onto the first header that it finds. What the parser cannot see is judged
here: exit codes, missing end marks, kernel reports (WARN, KASAN, lockdep ...), and what tests.toml
expects. A suite gives one result per KTAP test, one per "# memtype-cell:" line, in Bochs one per
"# memtype-probe:" line, and one named "program" for itself unless its tests already say everything.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import io
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import walker
from console import PANIC, Log, Segment
from results import (BOOT, CRASH, FAIL, GOOD, KERNEL_LOG, KUNIT, NOT_RUN, PASS, PROGRAM, SKIP,
                     XFAIL, End, Result)
from tables import Test

KSFT_FAIL, KSFT_SKIP = 1, 4     # tools/testing/selftests/kselftest.h
MAX_LOG = 200

LOST = re.compile(r"printk messages dropped")
# The first line of every report by which a kernel says that it is broken.
SPLAT = re.compile(
    r"\bWARNING: |\bBUG: |\bKASAN: |\bKCSAN: |\bUBSAN: |\bKFENCE: |lock order\b|held lock freed"
    r"|lock held when returning|still has locks held|INFO: (?:rcu|task|possible|trying to|NMI)"
    r"|rcu: .*(?:detected.*stall|starved)|kmemleak: [1-9]\d* new suspected|soft lockup|Oops"
    r"|general protection fault|unchecked MSR access|Unable to handle kernel|Internal error: "
    r"|DEBUG_LOCKS_WARN_ON|invalid opcode|refcount_t: |list_(?:add|del) corruption")
# "ok 2 # SKIP why": kselftest.h prints no name, and the kernel's parser then sees no result.
NAMELESS = re.compile(r"^(\s*(?:not )?ok \d+) # (\w+) (.*)$")
ANY_CELL = re.compile(r"^\s*# memtype-cell:")
CELL = re.compile(
    r"^\s*# memtype-cell: row=(.+?) effective=(\S+) forced=(yes|no)$")
# By this a program says that it ends before its tests do.
BAIL_OUT = re.compile(r"Bail out!")
# Of kunit_parser.TestStatus, those of a test that has come to its end.
RESULTS = ("SUCCESS", "FAILURE", "SKIPPED")
NOT_OK = re.compile(r"^\s*not ok \d+\b(?!.*# SKIP)")
SKIP_LINE = re.compile(r"^\s*(?:not )?ok \d+ ?(?:- )?(.*?) *# SKIP *(?:- *)?(.*)$|"
                       r"^\s*1\.\.0 # SKIP *(?:- *)?(?P<all>.*)$")
# The kernel's parser keeps what it prints to in a global variable.
PARSER_LOCK = threading.Lock()


def kunit_parser(tree: Path) -> ModuleType:
    """The kernel's own parser, taken from the tree under test."""
    directory = str(tree / "tools/testing/kunit")
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return importlib.import_module("kunit_parser")


@dataclass
class Leaf:
    """A KTAP test that has no tests below it."""
    path: str       # with its parents
    name: str
    status: str     # of kunit_parser.TestStatus


def leaves(test: object, prefix: str = "") -> Iterator[Leaf]:
    subtests = getattr(test, "subtests")
    name = (getattr(test, "name") or "").strip() or "(unnamed)"
    path = f"{prefix}.{name}" if prefix else name
    if not subtests:
        yield Leaf(path, name, getattr(test, "status").name)
    for sub in subtests:
        yield from leaves(sub, path)


def parse_ktap(parser: ModuleType, lines: list[str]) -> tuple[list[Leaf], list[str]]:
    """The tests of one KTAP stream, and what is wrong with it as a whole."""
    said = io.StringIO()
    printer = importlib.import_module("kunit_printer")
    with PARSER_LOCK:
        # A newer parser is told where to print.
        out = printer.Printer(output=said)
        parser.stdout = out  # type: ignore[attr-defined]
        told = [out] * (len(inspect.signature(parser.parse_run_tests).parameters) - 1)
        try:
            top = parser.parse_run_tests([NAMELESS.sub(r"\1 \3 # \2 \3", line) for line in lines],
                                         *told)
        except Exception as error:  # whatever goes wrong in there, it is not a pass
            return [], [f"the KTAP parser raised {type(error).__name__}: {error}"]
    if top.status.name in ("NO_TESTS", "FAILURE_TO_PARSE_TESTS"):
        return [], []
    found = [leaf for sub in top.subtests for leaf in leaves(sub)]
    errors = [line.split("[ERROR] ", 1)[1] for line in said.getvalue().splitlines()
              if "[ERROR] " in line]
    # A parent that failed by itself, a line beyond the plan, a second stream: no leaf says so.
    failures = [line.strip() for line in lines if NOT_OK.match(line)]
    if failures and all(leaf.status in ("SUCCESS", "SKIPPED") for leaf in found):
        errors.append(f"there is a “{failures[0]}” that is no test's result")
    return found, errors


def skip_reasons(lines: list[str]) -> dict[str, list[str]]:
    """The reason of each skipped test, in order, by name; the parser drops them."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        match = SKIP_LINE.match(NAMELESS.sub(r"\1 \3 # \2 \3", line))
        if match:
            reasons.setdefault((match[1] or "").strip(), []).append(match[2] or match["all"] or "")
    return reasons


def around(segment: Segment, pattern: re.Pattern[str] | None = None) -> list[str]:
    """The raw log of a failure: from shortly before the first match, else the segment's end."""
    raw = [line.raw for line in segment.lines]
    for number, line in enumerate(segment.lines):
        if pattern and pattern.search(line.text):
            start = max(0, number - 5)
            return raw[start:start + MAX_LOG]
    return raw[-MAX_LOG:]


class Judge:
    """Turns the log of one boot into results."""

    def __init__(self, machine: str, parser: ModuleType, log: Log, end: End | None = None,
                 seconds: dict[str, float] | None = None, trace: str | None = None) -> None:
        """`end` says how the machine ended, if not as it should; `seconds` is how long each suite
        took; `trace` is Bochs's, see walker.py."""
        self.machine = machine
        self.parser = parser
        self.log = log
        self.end = end
        self.seconds = seconds or {}
        self.brackets = None if trace is None else walker.brackets(trace)

    def result(self, suite: str, test: str, status: str, reason: str = "",
               segment: Segment | None = None, pattern: re.Pattern[str] | None = None) -> Result:
        log = around(segment, pattern) if segment and status not in GOOD else []
        return Result(self.machine, suite, test, suite, status, reason=reason, log=log,
                      seconds=self.seconds.get(suite, 0.0))

    def judge(self, tests: Iterable[Test]) -> list[Result]:
        """The results of the boot, and of those suites that started in it."""
        results = [self.boot()]
        for test in tests:
            if self.log.ktap or self.log.booted if test.suite == KUNIT else (
                    test.suite in self.log.programs):
                results += self.suite(test)
        return results + self.walks(results)

    def boot(self) -> Result:
        """Whether the machine came up, ran to its end, and the kernel had nothing to report."""
        log = self.log
        outside = Segment(BOOT, log.boot.before_ktap() + log.between.lines)
        if self.end and self.end.suite == BOOT:
            test, segment = ("power-off", outside) if log.booted else ("boot", log.boot)
            return self.result(BOOT, test, self.end.status, self.end.reason, segment,
                               PANIC if log.ended else None)
        if not self.end and not log.done:
            return self.result(BOOT, "power-off", CRASH,
                               log.ended or "the console ends before the tests were done", outside)
        # A suite that ended the machine has a result of its own for that.
        return self.report(BOOT, outside) or self.result(BOOT, "boot" if self.end else "power-off",
                                                         PASS)

    def report(self, suite: str, segment: Segment) -> Result | None:
        """A failure if the kernel reported a problem in this segment."""
        for pattern, reason in ((SPLAT, ""), (LOST, "the console lost messages: ")):
            for text in segment.messages():
                if pattern.search(text):
                    return self.result(suite, KERNEL_LOG, FAIL, reason + text, segment, pattern)
        return None

    def suite(self, test: Test) -> list[Result]:
        if test.suite == KUNIT:
            segment = self.log.boot
            lines = segment.messages()
            if self.log.booted:
                segment.how = "exit"
        else:
            segment = self.log.programs[test.suite]
            lines = segment.output()

        results = self.ktap(test, segment, lines) if test.ktap else []
        expected = [self.expect_failure(result, test.fails[result.test])
                    for result in results if result.test in test.fails]
        cells, missing = self.cells(test, segment, lines)
        results += cells
        # What the kernel says before KUnit starts is the boot's.
        skipped = len(segment.before_ktap()) if test.suite == KUNIT else 0
        splat = self.report(test.suite, Segment(test.suite, segment.lines[skipped:]))
        if splat:
            results.append(splat)
        verdict = self.verdict(test, segment, lines, results, any(expected))
        if verdict.status != PASS or not results:
            results.append(verdict)
        if segment.how == "exit":
            results += self.expect_skips(test, results, segment)
        return results + self.absent(test, missing, results, segment)

    def ktap(self, test: Test, segment: Segment, lines: list[str]) -> list[Result]:
        found, errors = parse_ktap(self.parser, lines)
        if any(map(BAIL_OUT.match, lines)):
            # What that leaves unfinished is no failure of its own.
            found, errors = [leaf for leaf in found if leaf.status in RESULTS], []
        reasons = skip_reasons(lines)
        results = []
        for leaf in found:
            if leaf.status == "SUCCESS":
                results.append(self.result(test.suite, leaf.path, PASS))
            elif leaf.status == "SKIPPED":
                reason = (reasons.get(leaf.name) or [""]).pop(0)
                results.append(self.result(test.suite, leaf.path, SKIP if reason else FAIL,
                                           reason or "skipped without a reason", segment))
            elif leaf.status == "FAILURE":
                results.append(self.result(test.suite, leaf.path, FAIL, "", segment, re.compile(
                    rf"^\s*not ok \d+ (?:- )?{re.escape(leaf.name)}")))
            elif segment.how == "exit":
                results.append(self.result(test.suite, leaf.path, CRASH,
                                           "the test has no result line", segment))
            # else the verdict on the program says why the rest is missing
        results += [self.result(test.suite, "KTAP", FAIL, error, segment) for error in errors
                    if segment.how == "exit"]
        return results

    def expect_failure(self, result: Result, why: str) -> bool:
        """Turns the result of a test that cannot pass here into an expected failure, and a pass
        into a failure; returns whether it failed as expected."""
        if result.status == FAIL:
            result.status, result.reason, result.log = XFAIL, why, []
            return True
        if result.status == PASS:
            result.status, result.reason = FAIL, f"passes, and tests.toml says that it fails: {why}"
        return False

    def expect_skips(self, test: Test, results: list[Result], segment: Segment) -> list[Result]:
        """Turns a skip that tests.toml does not list for this machine, with this reason, into a
        failure; returns a failure for each that it lists in vain."""
        wanted = test.skips.get(self.machine)
        if wanted is None:
            return []       # not known for this kernel
        unused = dict(wanted)
        for result in results:
            if result.status != SKIP:
                continue
            for name, reason in wanted.items():
                if fnmatch.fnmatchcase(result.test, name) and (
                        fnmatch.fnmatchcase(result.reason, reason)):
                    unused.pop(name, None)
                    break
            else:
                result.status, result.reason = FAIL, f"unexpected skip: {result.reason}"
                result.log = around(segment)
        return [self.result(test.suite, name, FAIL, "tests.toml says that it is skipped here, "
                            f"because “{reason}”, and it is not", segment)
                for name, reason in unused.items()]

    def cells(self, test: Test, segment: Segment,
              lines: list[str]) -> tuple[list[Result], dict[str, str]]:
        """One result per cell that the program printed, and what was expected beside them."""
        wanted = {row: values[self.machine] for row, values in test.rows.items()
                  if self.machine in values}
        results = [self.result(test.suite, "row", FAIL, f"malformed: {line.strip()}", segment)
                   for line in lines if ANY_CELL.match(line) and not CELL.match(line)]
        for match in filter(None, map(CELL.match, lines)):
            row, value = match[1], "forced" if match[3] == "yes" else match[2]
            expected = wanted.pop(row, "")
            status = PASS if value == expected else FAIL
            reason = "" if status == PASS else (
                f"is {value}, expected {expected}" if expected else
                f"is {value}, and tests.toml expects nothing of this row here")
            cell = self.result(test.suite, row, status, reason, segment, re.compile(
                rf"^\s*# memtype-cell: row={re.escape(row)} "))
            cell.row, cell.value, cell.expected = row, value, expected
            results.append(cell)
        return results, wanted

    def absent(self, test: Test, missing: dict[str, str], results: list[Result],
               segment: Segment) -> list[Result]:
        """The rows that the program should have printed; what else is wrong with it may be why."""
        cause = next((result.name for result in results if result.status not in GOOD), "")
        found = []
        for row, expected in missing.items():
            status, said = (NOT_RUN, None) if cause else (FAIL, segment)
            cell = self.result(test.suite, row, status, "the program did not print this row", said)
            cell.row, cell.expected, cell.cause = row, expected, cause
            found.append(cell)
        return found

    def walks(self, results: list[Result]) -> list[Result]:
        """One result per access that Bochs traced.

        Brackets and probes have nothing but their order in common. A program that goes wrong may
        leave a bracket without its end or its probe, and then nothing from there on can be told.
        """
        if self.brackets is None:
            return []
        probes = sum(bool(walker.ANY_PROBE.match(line))
                     for program in self.log.programs.values() for line in program.output())
        miscount = "" if len(self.brackets) == probes else (
            f"the trace has {len(self.brackets)} brackets, the programs printed {probes} probes")
        bad = [result for result in results
               if result.suite in self.log.programs and result.status not in GOOD]
        found = []
        cause = ""
        if miscount and not bad:
            found = [self.result(BOOT, walker.TEST, FAIL, miscount,
                                 Segment(BOOT, self.log.between.lines))]
            cause = found[0].name
        suspects = {result.suite: result.name for result in reversed(bad)}
        brackets = iter(self.brackets)
        for program in self.log.programs.values():
            cause = cause or (suspects.get(program.name, "") if miscount else "")
            for line in filter(walker.ANY_PROBE.match, program.output()):
                name, reason = walker.check(line, next(brackets, ""))
                found.append(self.result(
                    program.name, name, NOT_RUN if cause else FAIL if reason else PASS,
                    miscount if cause else reason, program, re.compile(re.escape(line))))
                found[-1].cause = cause
        return found

    def verdict(self, test: Test, segment: Segment, lines: list[str],
                results: list[Result], expected: bool) -> Result:
        """The program as a whole; `expected` says that tests of it failed as expected."""
        def say(status: str, reason: str) -> Result:
            return self.result(test.suite, PROGRAM, status, reason, segment)

        if not segment.how:
            if self.end and self.end.suite == test.suite:
                return say(self.end.status, self.end.reason)
            return say(CRASH, self.log.ended or "no end mark on the console")
        if segment.how == "signal":
            return say(CRASH, f"killed by signal {segment.code}")
        for line in filter(BAIL_OUT.match, lines):
            return say(FAIL, line)
        if segment.code == KSFT_SKIP:
            reasons = [why for whys in skip_reasons(lines).values() for why in whys if why]
            # Older programs say so in prose.
            reasons = reasons or [line for line in lines if re.search("skip", line, re.I)]
            reason = reasons[-1] if reasons else ""
            return say(SKIP, reason) if reason else say(FAIL, "skipped without a reason")
        if segment.code:
            # Failed tests already say so, unless there are none.
            if expected and segment.code == KSFT_FAIL or test.ktap and any(
                    result.status == FAIL for result in results):
                return say(PASS, "")
            return say(FAIL, f"exit code {segment.code}")
        if test.ktap and not any(not result.value for result in results):
            return say(FAIL, "no KTAP tests in its output")
        return say(PASS, "")
