# SPDX-License-Identifier: GPL-2.0-only
"""From the console log of a machine to test results.

init.c says what the lines look like. The log is cut into one segment per program, and a segment of
KTAP goes through the kernel's own parser (tools/testing/kunit/kunit_parser.py), one at a time,
since that locks onto the first header that it finds. What the parser cannot see is judged here:
exit codes, missing end marks, kernel reports (WARN, KASAN, lockdep ...) and the end of the machine.
A suite gives one result per KTAP test, one per "# memtype-cell:" line, in Bochs one per
"# memtype-probe:" line, and one named "program" for itself unless its tests already say everything.
"""

from __future__ import annotations

import importlib
import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Iterable, Iterator

import walker

KUNIT = "kunit"         # the suite that the kernel runs itself while it boots
BOOT = "boot"           # the suite of what the machine does before and after the tests
PROGRAM = "program"     # the test that stands for a program as a whole
KSFT_SKIP = 4           # tools/testing/selftests/kselftest.h
MAX_LOG = 200

PASS, FAIL, SKIP, CRASH, TIMEOUT, NONE = "pass", "fail", "skip", "crash", "timeout", "none"
# From best to worst: a cell of the matrix shows the worst of its results.
STATUSES = (PASS, SKIP, NONE, FAIL, CRASH, TIMEOUT)

STAMP = re.compile(r"^\[ *(\d+\.\d+)\] ?")
MARK = re.compile(r"^memtype> (?:(boot|done)|(start) (\S+)|(end) (\S+) (exit|signal)=(\d+))$")
PANIC = re.compile(r"Kernel panic - not syncing")
BANNER = re.compile(r"^(?:\[[ .\d]*\] ?)?Linux version ")
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
CELL = re.compile(r"^\s*# memtype-cell: row=(.+?) effective=(\S+) forced=(yes|no)$")
NOT_OK = re.compile(r"^\s*not ok \d+\b(?!.*# SKIP)")
SKIP_LINE = re.compile(r"^\s*(?:not )?ok \d+ ?(?:- )?(.*?) *# SKIP *(?:- *)?(.*)$|"
                       r"^\s*1\.\.0 # SKIP *(?:- *)?(?P<all>.*)$")


@dataclass
class Test:
    """One entry of tests.toml."""
    suite: str
    machines: list[str]
    timeout: int = 60
    program: str = ""
    args: list[str] = field(default_factory=list)
    ktap: bool = True
    base: bool = True
    proves: str = ""
    proves_not: str = ""
    guest: list[str] = field(default_factory=list)
    fails: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class Result:
    """One object of matrix.json's "results"; README.rst documents the fields."""
    machine: str
    suite: str
    test: str
    row: str
    status: str
    value: str = ""
    expected: str = ""
    seconds: float = 0.0
    reason: str = ""
    log: list[str] = field(default_factory=list)


@dataclass
class Line:
    text: str           # without the time stamp and our prefix
    kernel: bool        # a message of the kernel's own, not a program's output
    raw: str


@dataclass
class Segment:
    name: str
    lines: list[Line] = field(default_factory=list)
    how: str = ""       # "exit" or "signal"; empty if there is no end mark
    code: int = 0

    def output(self) -> list[str]:
        return [line.text for line in self.lines if not line.kernel]

    def messages(self) -> list[str]:
        return [line.text for line in self.lines if line.kernel]


@dataclass
class Log:
    """A console log, cut up."""
    boot: Segment
    programs: dict[str, Segment]
    between: Segment    # what the kernel says outside the programs
    booted: bool = False
    done: bool = False
    panic: str = ""
    banners: int = 0


def end_of_machine(line: str, banners: int) -> str:
    """Why the machine is over with this line, if it is: a panic, or a second boot banner."""
    if PANIC.search(line):
        return STAMP.sub("", line)
    if BANNER.match(line) and banners:
        return "the machine rebooted by itself"
    return ""


def cut(lines: Iterable[str]) -> Log:
    """Cuts a console log into segments. After a panic only its own trace counts, and nothing after
    a second boot banner."""
    log = Log(Segment(BOOT), {}, Segment(BOOT))
    current = log.boot
    partial = ""
    for raw in lines:
        raw = raw.rstrip("\r\n")
        if BANNER.match(raw) and log.banners and log.panic:
            break
        log.panic = log.panic or end_of_machine(raw, log.banners)
        log.banners += bool(BANNER.match(raw))
        if log.banners > 1:
            break
        if not STAMP.match(raw):
            continue    # firmware, boot loader
        text = STAMP.sub("", raw)
        mark = None if log.panic else MARK.match(text)
        if text.startswith("memtype+ "):
            partial += text[9:]
        elif text.startswith("memtype|"):
            current.lines.append(Line(partial + text[9:], False, raw))
            partial = ""
        elif not mark:
            current.lines.append(Line(text, True, raw))
        elif mark[1] == "boot":
            log.booted, current = True, log.between
        elif mark[1] == "done":
            log.done = True
        elif mark[2]:
            current = log.programs.setdefault(mark[3], Segment(mark[3]))
        else:
            current.how, current.code = mark[6], int(mark[7])
            current = log.between
    return log


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
    parser.stdout = printer.Printer(said)  # type: ignore[attr-defined]
    try:
        top = parser.parse_run_tests([NAMELESS.sub(r"\1 \3 # \2 \3", line) for line in lines])
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
    """Turns the log of one machine into results."""

    def __init__(self, machine: str, parser: ModuleType, log: Log, ended: str = "",
                 overtime: str = "", seconds: dict[str, float] | None = None,
                 trace: str | None = None) -> None:
        """`ended` says what was wrong with the machine's end, if anything; `overtime` names the
        suite (or BOOT) during which a time limit passed; `trace` is Bochs's, see walker.py."""
        self.machine = machine
        self.parser = parser
        self.log = log
        self.ended = ended
        self.overtime = overtime
        self.seconds = seconds or {}
        self.brackets = None if trace is None else walker.brackets(trace)
        self.probes = [(program.name, line) for program in log.programs.values()
                       for line in program.output() if walker.ANY_PROBE.match(line)]

    def result(self, suite: str, test: str, status: str, reason: str = "",
               segment: Segment | None = None, pattern: re.Pattern[str] | None = None) -> Result:
        log = around(segment, pattern) if segment and status not in (PASS, SKIP) else []
        return Result(self.machine, suite, test, suite, status, reason=reason, log=log,
                      seconds=self.seconds.get(suite, 0.0))

    def judge(self, tests: Iterable[Test]) -> list[Result]:
        results = [self.boot()]
        for test in tests:
            results += self.suite(test)
        return results

    def boot(self) -> Result:
        """Whether the machine came up, ran to its end, and the kernel had nothing to report."""
        log = self.log
        outside = Segment(BOOT, before_ktap(log.boot) + log.between.lines)
        if self.overtime == BOOT:
            return self.result(BOOT, "boot", TIMEOUT, self.ended, log.boot)
        if not log.booted:
            reason = log.panic or self.ended or "no sign of init on the console"
            return self.result(BOOT, "boot", CRASH, reason, log.boot, PANIC)
        if not log.done:
            return self.result(BOOT, "power-off", CRASH, log.panic or self.ended or
                               "the console ends before the tests were done", outside)
        if self.ended:
            return self.result(BOOT, "power-off", FAIL, self.ended, outside)
        if self.brackets and not self.probes:
            return self.result(BOOT, walker.TEST, FAIL, self.miscount(), outside)
        return self.report(BOOT, outside) or self.result(BOOT, "power-off", PASS)

    def report(self, suite: str, segment: Segment) -> Result | None:
        """A failure if the kernel reported a problem in this segment."""
        for pattern, reason in ((SPLAT, ""), (LOST, "the console lost messages: ")):
            for text in segment.messages():
                if pattern.search(text):
                    return self.result(suite, "kernel log", FAIL, reason + text, segment, pattern)
        return None

    def suite(self, test: Test) -> list[Result]:
        if test.suite == KUNIT:
            segment = self.log.boot
            lines = segment.messages()
            if self.log.booted:
                segment.how = "exit"
        else:
            segment = self.log.programs.get(test.suite, Segment(test.suite))
            lines = segment.output()
            if test.suite not in self.log.programs:
                why = self.log.panic or self.ended or "the console ends before it"
                return [self.result(test.suite, PROGRAM, NONE, f"did not run: {why}")]

        results = self.ktap(test, segment, lines) if test.ktap else []
        expected = [self.expect_failure(result, test.fails[result.test])
                    for result in results if result.test in test.fails]
        results += self.cells(test, segment, lines)
        # What the kernel says before KUnit starts is the boot's.
        skipped = len(before_ktap(segment)) if test.suite == KUNIT else 0
        splat = self.report(test.suite, Segment(test.suite, segment.lines[skipped:]))
        if splat:
            results.append(splat)
        verdict = self.verdict(test, segment, lines, results, any(expected))
        if verdict.status != PASS or not results:
            results.append(verdict)
        return results + self.walks(test.suite, segment)

    def ktap(self, test: Test, segment: Segment, lines: list[str]) -> list[Result]:
        found, errors = parse_ktap(self.parser, lines)
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
        """Turns the result of a test that cannot pass here into a skip, and a pass into a failure;
        returns whether it failed as expected."""
        if result.status == FAIL:
            result.status, result.reason, result.log = SKIP, f"fails as expected: {why}", []
            return True
        if result.status == PASS:
            result.status, result.reason = FAIL, f"passes, and tests.toml says that it fails: {why}"
        return False

    def cells(self, test: Test, segment: Segment, lines: list[str]) -> list[Result]:
        """One result per cell that the program printed or that was expected of it."""
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
            cell = self.result(test.suite, row, status, reason, segment)
            cell.row, cell.value, cell.expected = row, value, expected
            results.append(cell)
        if segment.how == "exit" and segment.code == KSFT_SKIP:
            wanted = {}     # the skip of the program says why
        for row, expected in wanted.items():
            cell = self.result(test.suite, row, NONE, "the program did not print this row", segment)
            cell.row, cell.expected = row, expected
            results.append(cell)
        return results

    def walks(self, suite: str, segment: Segment) -> list[Result]:
        """One result per access of this program that Bochs traced."""
        mine = [number for number, (name, _) in enumerate(self.probes) if name == suite]
        if self.brackets is None or not mine:
            return []
        if len(self.brackets) != len(self.probes):
            return [self.result(suite, walker.TEST, FAIL, self.miscount(), segment)]
        results = []
        for number in mine:
            line = self.probes[number][1]
            name, reason = walker.check(line, self.brackets[number])
            results.append(self.result(suite, name, FAIL if reason else PASS, reason, segment,
                                       re.compile(re.escape(line))))
        return results

    def miscount(self) -> str:
        return (f"the trace has {len(self.brackets or [])} brackets, "
                f"the program printed {len(self.probes)} probes")

    def verdict(self, test: Test, segment: Segment, lines: list[str],
                results: list[Result], expected: bool) -> Result:
        """The program as a whole; `expected` says that tests of it failed as expected."""
        def say(status: str, reason: str) -> Result:
            return self.result(test.suite, PROGRAM, status, reason, segment)

        if self.overtime == (BOOT if test.suite == KUNIT else test.suite) and not segment.how:
            return say(TIMEOUT, self.ended)
        if not segment.how:
            return say(CRASH, self.log.panic or self.ended or "no end mark on the console")
        if segment.how == "signal":
            return say(CRASH, f"killed by signal {segment.code}")
        if segment.code == KSFT_SKIP:
            reasons = [why for whys in skip_reasons(lines).values() for why in whys if why]
            # Older programs say so in prose.
            reasons = reasons or [line for line in lines if re.search("skip", line, re.I)]
            reason = reasons[-1] if reasons else ""
            return say(SKIP, reason) if reason else say(FAIL, "skipped without a reason")
        if segment.code:
            # Failed tests already say so, unless there are none.
            if expected or test.ktap and any(result.status == FAIL for result in results):
                return say(PASS, "")
            return say(FAIL, f"exit code {segment.code}")
        if test.ktap and not any(not result.value for result in results):
            return say(NONE, "no KTAP tests in its output")
        return say(PASS, "")


def before_ktap(segment: Segment) -> list[Line]:
    """The part of the boot before KUnit starts."""
    for number, line in enumerate(segment.lines):
        if re.match(r"\s*K?TAP version \d+$", line.text):
            return segment.lines[:number]
    return segment.lines
