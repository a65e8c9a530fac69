# SPDX-License-Identifier: GPL-2.0-only
"""Everything that people and CI systems read, made from out/matrix.json and nothing else.

The terminal and junit.xml are here, report.html is in page.py, and what all of them say in
summary.py.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import page
import summary
from results import FAIL, NOT_RUN, PASS, PROGRAM, SKIP, XFAIL
from settings import OUT, say
from summary import Causes, Cell, Failure, Record, Table, number

COLOURS = {PASS: "32", XFAIL: "36", SKIP: "33", NOT_RUN: "35"}      # every other status is red
RED = "31"
WIDTH = 100             # where the output is no terminal
GAP = 2                 # between columns
LOGS = 8                # so many failures are printed with a log,
LOG_LINES = 20          # each with so many lines of it
ROWS = 6                # and so many of its rows


class Terminal:
    """How wide it is, and whether it has colours."""

    def __init__(self, plain: bool = False) -> None:
        """`plain`: the same wherever it is shown."""
        self.colour = sys.stdout.isatty() and not plain
        self.width = WIDTH if plain else max(40, shutil.get_terminal_size((WIDTH, 24)).columns)

    def paint(self, text: str, status: str) -> str:
        painted = f"\033[{COLOURS.get(status, RED)}m{text}\033[0m"
        return painted if self.colour and text else text

    def wrap(self, text: str, indent: str = "", more: str | None = None) -> list[str]:
        """Lines that fit; a word that is too long is cut, and no word ends at a hyphen."""
        return textwrap.wrap(text, self.width, initial_indent=indent, break_on_hyphens=False,
                             subsequent_indent=indent if more is None else more) or [""]

    def cut(self, text: str, width: int) -> str:
        """The text with its middle left out if it is too long."""
        if len(text) <= width:
            return text
        head = (width - 1) // 2
        return f"{text[:head]}…{text[len(text) - (width - 1 - head):]}"


def blocks(found: Table, first: int, width: int) -> list[Table]:
    """The table in as many parts as are needed to fit, each with some of the machines."""
    needs = {machine: column(found, machine) + GAP for machine in found.machines}
    parts: list[list[str]] = [[]]
    for machine, need in needs.items():
        if parts[-1] and first + sum(needs[one] for one in parts[-1]) + need > width:
            parts.append([])
        parts[-1].append(machine)
    return [Table(part, [row for row in found.rows
                         if any((row, machine) in found.cells for machine in part)], found.cells)
            for part in parts]


def column(found: Table, machine: str) -> int:
    return max(len(cell.text) for (_, name), cell in found.cells.items() if name == machine)


def draw(found: Table, heads: dict[str, str], terminal: Terminal) -> list[str]:
    """The table in blocks that fit. Names of machines are much longer than what a column holds, so
    that each has a line of its own, from where a line leads to its column."""
    longest = max(map(len, [*found.rows, *(heads[name] for name in found.machines)]))
    first = min(longest, terminal.width // 2)
    lines = []
    for block in blocks(found, first, terminal.width):
        widths = [column(found, machine) for machine in block.machines]
        ends = [first + sum(widths[:count]) + GAP * count for count in range(1, len(widths) + 1)]
        bars = [" "] * ends[-1]
        for machine, end in zip(block.machines, ends):
            head = terminal.cut(heads[machine], ends[0] - 2)
            line = bars.copy()
            line[:len(head) + 1] = [*head, " "]
            for place in range(len(head) + 1, end - 1):
                line[place] = "─" if line[place] == " " else line[place]
            line[end - 1] = "┐"
            bars[end - 1] = "│"
            lines.append("".join(line).rstrip())
        for row in block.rows:
            line = [terminal.cut(row, first).ljust(first)]
            for machine, width in zip(block.machines, widths):
                cell = found.cells.get((row, machine), Cell(PASS, "", []))
                space = " " * (GAP + width - len(cell.text))
                line.append(space + terminal.paint(cell.text, FAIL if cell.failed else cell.status))
            lines.append("".join(line).rstrip())
        lines.append("")
    return lines


def heads(matrix: dict[str, Any], causes: Causes) -> dict[str, str]:
    """Each machine with what its results come to."""
    width = max(map(len, matrix["machines"]))
    lines = {}
    for name, item in matrix["machines"].items():
        total = summary.counts([result for result in matrix["results"]
                                if result["machine"] == name], causes)
        said = ", ".join(f"{count} {word}" for count, word in (
            (total.passed, "passed"), (total.failed, "FAILED"), (total.not_run, "not run"))
            if count)
        boots = f", {item['boots']} boots" if item["boots"] > 1 else ""
        lines[name] = f"{name.ljust(width)} {said}, {item['seconds']:4.0f} s{boots}"
    return lines


def short(found: Table) -> Table:
    """A table for the terminal: what failed catches the eye, what did not run does not."""
    for cell in found.cells.values():
        if cell.failed:
            cell.text = cell.text.upper()
        elif cell.status == NOT_RUN:
            cell.text = "-"
    return found


def suites(matrix: dict[str, Any], causes: Causes, terminal: Terminal) -> list[str]:
    """One line per suite, by architecture."""
    lines = []
    for arch in summary.arches(matrix):
        found = summary.table(summary.machines_of(matrix, arch), summary.by_suite(matrix),
                              lambda results: summary.suite_cell(results, causes))
        lines += draw(short(found), heads(matrix, causes), terminal) if found.rows else []
    return lines + terminal.wrap(
        "A number says how many tests passed; 53/65 means that the others were skipped, or failed "
        "as expected, and - that none ran. An empty cell: not a test of this machine.")


def alike(found: Table) -> Table:
    """One row for all that read the same on all machines, without those where that is one value."""
    same: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for row in found.rows:
        reads = [found.cells.get((row, name), Cell("", "", [])) for name in found.machines]
        if len({cell.text.rstrip("*") for cell in reads if cell.text}) > 1 or any(
                cell.status not in ("", PASS) for cell in reads):
            same.setdefault(tuple((cell.status, cell.text) for cell in reads), []).append(row)
    cells = {}
    for rows in same.values():
        label = rows[0] if len(rows) == 1 else f"{rows[0]}, and {len(rows) - 1} more"
        cells.update({(label, name): cell for (row, name), cell in found.cells.items()
                      if row == rows[0]})
    used = {name for _, name in cells}
    return Table([name for name in found.machines if name in used],
                 summary.distinct(label for label, _ in cells), cells)


def types(matrix: dict[str, Any], causes: Causes, terminal: Terminal) -> list[str]:
    """The rows of memory types that say something about the machines: where they differ."""
    lines, total = [], 0
    for suite, results in summary.by_suite(matrix).items():
        rows = summary.type_rows(results)
        total += len(rows)
        for arch in summary.arches(matrix):
            found = alike(summary.table(summary.machines_of(matrix, arch), rows,
                                        lambda some: summary.row_cell(some, causes)))
            if found.rows:
                lines += [f"{suite}, {arch}",
                          *draw(found, {name: name for name in found.machines}, terminal)]
    if not total:
        return []
    said = terminal.wrap(
        f"Rows of memory types, {total} in all. Here are those that differ between machines of one "
        "architecture; rows with the same values share a line. All are in report.html.")
    return [*said, "", *lines]


def excerpt(result: Record, terminal: Terminal) -> list[str]:
    """What ended a program is at the end of its log, any other problem near the start."""
    lines = [part for line in result["log"] for part in terminal.wrap(
        line.expandtabs(), "    ", "      ")]
    return lines[-LOG_LINES:] if result["test"] == PROGRAM or result["status"] != FAIL else (
        lines[:LOG_LINES])


def shown(path: Path) -> str:
    """A path as short as one can type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def describe(failure: Failure, terminal: Terminal, log: list[str]) -> list[str]:
    """One cause: where, why, what did not run because of it, its log, and how to repeat it."""
    first = failure.first
    status = failure.status.upper()
    lines = terminal.wrap(f"{status} {failure.title()}", more="  ")
    lines[0] = terminal.paint(status, failure.status) + lines[0][len(status):]
    lines += terminal.wrap(f"on {', '.join(failure.machines)}", "  ", "     ")
    if first["reason"]:
        lines += terminal.wrap(first["reason"], "  ")
    rows = failure.rows()
    for name, machines in list(rows.items())[:ROWS]:
        lines += terminal.wrap(f"{name}: {', '.join(machines)}", "  - ", "    ")
    if len(rows) > ROWS:
        lines.append(f"  - and {len(rows) - ROWS} more")
    if failure.victims:
        lines += terminal.wrap(f"and {failure.consequences()} did not run", "  ")
    lines += log
    # One can copy this to a shell, also if it takes several lines.
    command = textwrap.wrap(f"  repeat: {first['repeat']}", terminal.width - 2,
                            break_long_words=False, break_on_hyphens=False,
                            subsequent_indent="      ")
    lines += " \\\n".join(command).split("\n")
    if first["console"]:
        lines.append(f"  log:    {shown(OUT / first['console'])}")
    return lines


def problems(failures: list[Failure], terminal: Terminal) -> list[str]:
    """All failures; when there are many, the last logs are left to report.html."""
    if not failures:
        return []
    failed = sum(len(failure.results) for failure in failures)
    lines = [f"{number(failed, 'failure')}, {number(len(failures), 'cause')}:", ""]
    titles: dict[tuple[str, ...], str] = {}     # of the logs that are there
    for failure in failures:
        log = excerpt(failure.first, terminal)
        same = titles.get(tuple(log))
        if same:
            log = terminal.wrap(f"the log is that of {same}", "    ")
        elif len(titles) == LOGS:
            log = log and ["    the log is in report.html"]
        elif log:
            titles[tuple(log)] = failure.title()
        lines += [*describe(failure, terminal, log), ""]
    return lines


def others(results: list[Record], causes: Causes, terminal: Terminal) -> list[str]:
    """What neither passed nor failed, one entry for each reason."""
    lines = []
    skipped = [result for result in results if result["status"] == NOT_RUN
               and (causes.root(result) or result)["status"] == SKIP]
    for status, found in ((XFAIL, [one for one in results if one["status"] == XFAIL]),
                          (SKIP, [one for one in results if one["status"] == SKIP]),
                          (NOT_RUN, skipped)):
        for same in summary.folded(found):
            said = terminal.wrap(f"{status} {len(same):4}  {same[0]['reason']} "
                                 f"({summary.where(same)})", more=" " * 8)
            said[0] = terminal.paint(status, status) + said[0][len(status):]
            lines += said
    return lines


def printable(text: str) -> str:
    """XML 1.0 has no control characters, not even escaped."""
    return "".join(char if char >= " " or char in "\n\t" else "?" for char in text)


def totals(element: xml.Element, results: list[Record], causes: Causes, seconds: float) -> None:
    total = summary.counts(results, causes)
    failed = sum(result["status"] == FAIL for result in results)
    element.set("tests", str(len(results)))
    element.set("failures", str(failed))
    element.set("errors", str(total.failed - failed))
    element.set("skipped", str(total.xfailed + total.skipped + total.not_run))
    element.set("time", f"{seconds:.3f}")


def junit(matrix: dict[str, Any]) -> bytes:
    """A testsuite for each suite on each machine.

    KTAP says nothing about time, so that each test has an equal share of its suite's. The log of a
    failure is at the first result that reports it. GitLab shows the text of an element and not its
    message, so that the reason is in both.
    """
    results = matrix["results"]
    # What was written before there were these can still be reported.
    sources: dict[str, str] = matrix.get("sources", {})
    causes = Causes(results)
    first = {id(result): failure.first for failure in summary.failures(results)
             for result in failure.results}
    root = xml.Element("testsuites", name="memtype")
    groups: dict[tuple[str, str], list[Record]] = {}
    for result in results:
        groups.setdefault((result["machine"], result["suite"]), []).append(result)
    totals(root, results, causes, sum(max(one["seconds"] for one in group)
                                      for group in groups.values()))
    for (machine, suite), group in groups.items():
        seconds = max(one["seconds"] for one in group)
        name = f"{machine}.{suite}"
        element = xml.SubElement(root, "testsuite", name=name,
                                 timestamp=matrix["environment"]["date"].partition("+")[0])
        totals(element, group, causes, seconds)
        for result in group:
            case = xml.SubElement(element, "testcase", classname=name, name=result["test"],
                                  time=f"{seconds / len(group):.3f}")
            if suite in sources:
                case.set("file", sources[suite])
            status, reason = result["status"], printable(result["reason"])
            if causes.failed(result):
                kind = "failure" if status == FAIL else "error"
                problem = xml.SubElement(case, kind, type=status, message=reason)
                origin = first[id(result)]
                log = result["log"] if origin is result else [
                    f"as {summary.name_of(origin)}, where the log is"]
                problem.text = printable("\n".join([reason, *log]))
            elif status != PASS:
                said = {XFAIL: "expected failure: ", NOT_RUN: "did not run: "}.get(status, "")
                said += printable(result["cause"]) if status == NOT_RUN else reason
                xml.SubElement(case, "skipped", message=said).text = said
    xml.indent(root)
    return bytes(xml.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def text(matrix: dict[str, Any], terminal: Terminal) -> str:
    """All that the terminal shows: tables, failures by cause, the rest in short, the sum."""
    results = matrix["results"]
    causes = Causes(results)
    failures = summary.failures(results)
    parts = [suites(matrix, causes, terminal), types(matrix, causes, terminal),
             problems(failures, terminal), others(results, causes, terminal),
             terminal.wrap(matrix["environment"]["note"])]
    last = [f"report: {shown(OUT / 'report.html')}"]
    return "\n\n".join("\n".join(part).strip("\n") for part in [
        *parts, last, [f"matrix: {summary.counts(results)}"]] if "".join(part))


def report() -> int:
    """Write junit.xml and report.html, prints the table; 0 if nothing failed."""
    matrix = summary.load(OUT)
    (OUT / "junit.xml").write_bytes(junit(matrix))
    (OUT / "report.html").write_text(page.page(matrix))
    say("\n" + text(matrix, Terminal()))
    return 0 if summary.counts(matrix["results"]).good() else 1
