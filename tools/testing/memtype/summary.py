# SPDX-License-Identifier: GPL-2.0-only
"""What the results of matrix.json come to: counts, cells of tables, and failures by their cause."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import FAIL, GOOD, KERNEL_LOG, NOT_RUN, PASS, PROGRAM, SKIP, STATUSES, XFAIL
from settings import OUT, fail

# One object of "results".
Record = dict[str, Any]


def load(out: Path | None = None) -> dict[str, Any]:
    path = (out or OUT) / "matrix.json"
    try:
        return dict(json.loads(path.read_text()))
    except OSError:
        fail(f"{path} is not there: run make matrix first")


def name_of(result: Record) -> str:
    return f"{result['machine']} {title_of(result)}"


def title_of(result: Record) -> str:
    return str(result["suite"]) if result["test"] == PROGRAM else (
        f"{result['suite']} {result['test']}")


def distinct(values: Iterable[str]) -> list[str]:
    """Each value once, in the order in which they come first."""
    return list(dict.fromkeys(values))


def number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class Causes:
    """Which result is the reason why another one is "not run"."""

    def __init__(self, results: list[Record]) -> None:
        self.known: dict[str, Record] = {}
        # Of several results with one name, the worst is what ended something.
        for result in sorted(results, key=lambda result: STATUSES.index(result["status"])):
            self.known[f"{result['machine']} {result['suite']} {result['test']}"] = result

    def root(self, result: Record) -> Record | None:
        """What is reported as the cause; a cause that passed, or is not there, explains nothing."""
        seen: list[Record] = []
        while result["status"] == NOT_RUN:
            if any(result is one for one in seen) or result["cause"] not in self.known:
                return None
            seen.append(result)
            result = self.known[result["cause"]]
        return None if result["status"] in (PASS, XFAIL) else result

    def failed(self, result: Record) -> bool:
        """Whether this counts as a failure."""
        if result["status"] == NOT_RUN:
            return self.root(result) is None
        return result["status"] not in GOOD


@dataclass(frozen=True)
class Counts:
    """How many results there are of each kind; each result is in one of them."""
    passed: int
    failed: int
    xfailed: int
    skipped: int
    not_run: int

    def __str__(self) -> str:
        return (f"{self.passed} passed, {self.failed} failed, "
                f"{number(self.xfailed, 'expected failure')}, {self.skipped} skipped, "
                f"{self.not_run} not run")

    def good(self) -> bool:
        return bool(self.passed) and not self.failed


def counts(results: list[Record], causes: Causes | None = None) -> Counts:
    """`causes` are those of all results, if these are only some of them."""
    causes = causes or Causes(results)
    failed = sum(map(causes.failed, results))
    number_of = {status: sum(result["status"] == status for result in results)
                 for status in (PASS, XFAIL, SKIP)}
    return Counts(number_of[PASS], failed, number_of[XFAIL], number_of[SKIP],
                  len(results) - failed - sum(number_of.values()))


def normal(text: str, machine: str) -> str:
    """A reason without what differs from machine to machine though the cause is the same."""
    text = re.sub(rf"(?<![\w-]){re.escape(machine)}(?![\w-])", "<machine>", text)
    # The number of a line in a source file stays: it tells one WARN from another.
    return re.sub(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{8,}\b|(?<!\.[chS]:)\b\d+(?:\.\d+)?", "#", text)


@dataclass
class Failure:
    """One cause: the results that report it, and those that did not run because of it."""
    results: list[Record] = field(default_factory=list)
    victims: list[Record] = field(default_factory=list)

    @property
    def status(self) -> str:
        return max((str(result["status"]) for result in self.results), key=STATUSES.index)

    @property
    def first(self) -> Record:
        """The result that stands for all; one that has a log, if any has."""
        return next((result for result in self.results if result["log"]), self.results[0])

    @property
    def machines(self) -> list[str]:
        return distinct(result["machine"] for result in self.results)

    def title(self) -> str:
        titles = distinct(title_of(result) for result in self.results)
        suites = distinct(result["suite"] for result in self.results)
        tests = distinct(result["test"] for result in self.results)
        if len(titles) == 1:
            return titles[0]
        if len(suites) == 1:
            kind = "row" if self.first["value"] else "test"
            return f"{suites[0]}: {number(len(titles), kind)}"
        said = "" if tests[0] == PROGRAM else f": {tests[0]}"
        return number(len(suites), "suite") + said

    def rows(self) -> dict[str, list[str]]:
        """Test → machines, if it is more than one test."""
        found: dict[str, list[str]] = {}
        for result in self.results:
            found.setdefault(title_of(result), []).append(result["machine"])
        return found if len(found) > 1 else {}

    def consequences(self) -> str:
        """How much did not run because of this, by machine."""
        suites: dict[str, list[str]] = {}
        for result in self.victims:
            suites.setdefault(result["machine"], []).append(result["suite"])
        return ", ".join(f"{number(len(distinct(names)), 'suite')} on {machine}"
                         for machine, names in suites.items())


def key_of(result: Record) -> tuple[str, str, str]:
    """What failures of one cause have in common.

    That is suite, test and reason, on all machines. It is only the reason for what the kernel
    reports, which may come while any suite runs, and for what did not run without a known cause.
    Rows of one suite that read the same wrong value are one cause as well, and so are tests of it
    that ended in the same way before they had a result.
    """
    reason = normal(result["reason"], result["machine"])
    if result["status"] == NOT_RUN:
        return "", "", reason
    if result["test"] == KERNEL_LOG:
        return "", KERNEL_LOG, reason
    alike = result["value"] or result["status"] != FAIL
    return result["suite"], "" if alike else result["test"], reason


def failures(results: list[Record]) -> list[Failure]:
    """All failures by cause, those first that concern the most results."""
    causes = Causes(results)
    found: dict[tuple[str, str, str], Failure] = {}
    for result in filter(causes.failed, results):
        found.setdefault(key_of(result), Failure()).results.append(result)
    for result in results:
        root = causes.root(result) if result["status"] == NOT_RUN else None
        if root is not None and causes.failed(root):
            found[key_of(root)].victims.append(result)
    return sorted(found.values(), key=lambda one: -len(one.results) - len(one.victims))


@dataclass
class Cell:
    """A suite or a row of it, on one machine."""
    status: str
    text: str
    results: list[Record]
    failed: bool = False


def row_cell(results: list[Record], causes: Causes) -> Cell:
    """What a row reads on one machine, and if that is wrong, what it must read."""
    bad = [result for result in results if causes.failed(result)]
    shown = (bad or results)[0]
    if not shown["value"]:
        return Cell(shown["status"], shown["status"], results, bool(bad))
    text = str(shown["value"])
    if bad:
        text += f" ≠ {shown['expected'] or 'none'}"
    return Cell(shown["status"], text, results, bool(bad))


def suite_cell(results: list[Record], causes: Causes) -> Cell:
    """How many tests of a suite passed on one machine, or else how many failed and how."""
    total = counts(results, causes)
    if total.failed:
        found = {str(result["status"]) for result in results if causes.failed(result)}
        status = max(found, key=STATUSES.index)
        text = status if len(found) == 1 else FAIL
        if len(results) > 1:
            text += f" {total.failed}/{len(results)}"
        return Cell(status, text, results, True)
    if total.passed:
        return Cell(PASS, str(total.passed) if total.passed == len(results) else
                    f"{total.passed}/{len(results)}", results)
    status = max((str(result["status"]) for result in results), key=STATUSES.index)
    return Cell(status, status, results)


@dataclass
class Table:
    """Rows and machines; `cells` has only what is there."""
    machines: list[str]
    rows: list[str]
    cells: dict[tuple[str, str], Cell]


def table(machines: Collection[str], rows: dict[str, list[Record]],
          make: Callable[[list[Record]], Cell]) -> Table:
    """`rows` has the results of each row, from which `make` makes a cell for each machine; rows
    and machines without any are left out."""
    cells = {}
    for row, results in rows.items():
        mine: dict[str, list[Record]] = {}
        for result in results:
            mine.setdefault(result["machine"], []).append(result)
        cells.update({(row, machine): make(some) for machine, some in mine.items()
                      if machine in machines})
    return Table([machine for machine in machines if any(name == machine for _, name in cells)],
                 [row for row in rows if any(name == row for name, _ in cells)], cells)


def by_suite(matrix: dict[str, Any]) -> dict[str, list[Record]]:
    """Suite → its results, rows included, in the order of the suites."""
    found: dict[str, list[Record]] = {suite: [] for suite in matrix["suites"]}
    for result in matrix["results"]:
        found.setdefault(result["suite"], []).append(result)
    return {suite: results for suite, results in found.items() if results}


def type_rows(results: list[Record]) -> dict[str, list[Record]]:
    """Row → its results, of one suite: the rows that have a name of their own."""
    found: dict[str, list[Record]] = {}
    for result in results:
        if result["row"] != result["suite"]:
            found.setdefault(result["row"], []).append(result)
    return found


def machines_of(matrix: dict[str, Any], arch: str) -> list[str]:
    return [name for name, item in matrix["machines"].items() if item["arch"] == arch]


def arches(matrix: dict[str, Any]) -> list[str]:
    return distinct(item["arch"] for item in matrix["machines"].values())


def folded(results: list[Record]) -> list[list[Record]]:
    """The results by the reason that they give, the most frequent first."""
    found: dict[str, list[Record]] = {}
    for result in results:
        found.setdefault(normal(result["reason"], result["machine"]), []).append(result)
    return sorted(found.values(), key=lambda same: -len(same))


def where(results: list[Record]) -> str:
    """Where results of one reason are, in a few words."""
    suites = distinct(result["suite"] for result in results)
    machines = distinct(result["machine"] for result in results)
    what = suites[0] if len(suites) == 1 else number(len(suites), "suite")
    on = ", ".join(machines) if len(machines) <= 4 else number(len(machines), "machine")
    return f"{what} on {on}"
