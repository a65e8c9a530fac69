# SPDX-License-Identifier: GPL-2.0-only
"""Everything that people and CI systems read, made from out/matrix.json and nothing else."""

from __future__ import annotations

import html
import json
import sys
import xml.etree.ElementTree as xml
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judge import MAX_LOG
from results import FAIL, GOOD, NOT_RUN, PASS, PROGRAM, SKIP, STATUSES, XFAIL
from settings import OUT, fail, say

COLOURS = {PASS: "32", SKIP: "33"}      # terminal; everything else is red
LEGEND = {
    "pass": "as expected; a row with a value shows that value, “forced” where the guest's own "
            "choice is ignored as expected",
    "skip": "could not run here, for the reason given below",
    "none": "did not run, or had no tests in it: never a pass",
    "fail": "not as expected, a bad exit code, or a report of the kernel's",
    "crash": "killed, no end mark, or the machine ended under it",
    "timeout": "over its time limit",
}
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1em;
       color: #1c1c1c; background: #fff }
table { border-collapse: collapse; margin: 1em 0 } caption { text-align: left; font-weight: 600 }
th, td { border: 1px solid #c8c8c8; padding: .25em .7em; text-align: left; vertical-align: top }
th { background: #f2f2f2 } td.cell { text-align: center; white-space: nowrap }
.pass { background: #d9f2dc } .skip { background: #fff3c4 } .none { background: #e4e0f5 }
.fail { background: #f9d0cd } .crash { background: #f2a8a2 } .timeout { background: #f7c29b }
pre { background: #f7f7f7; border: 1px solid #ddd; padding: .7em; overflow-x: auto;
      font-size: 12px }
code { background: #f2f2f2; padding: 0 .25em } .wide { overflow-x: auto }
"""


@dataclass
class Cell:
    """A row of the matrix on one machine."""
    status: str
    text: str


def load(out: Path | None = None) -> dict[str, Any]:
    path = (out or OUT) / "matrix.json"
    try:
        return dict(json.loads(path.read_text()))
    except OSError:
        fail(f"{path} is not there: run make matrix first")


@dataclass
class Counts:
    passed: int
    failed: int
    xfailed: int
    skipped: int
    not_run: int


def counts(results: list[dict[str, Any]]) -> Counts:
    n = {s: sum(r["status"] == s for r in results) for s in STATUSES}
    return Counts(n[PASS], len(results) - n[PASS] - n[XFAIL] - n[SKIP] - n[NOT_RUN], n[XFAIL], n[SKIP], n[NOT_RUN])


def cell(results: list[dict[str, Any]]) -> Cell:
    """What one row on one machine comes to: the worst of its results, and how many they are."""
    worst = max((str(result["status"]) for result in results), key=STATUSES.index)
    bad = [result for result in results if result["status"] not in GOOD]
    valued = [result for result in results if result["value"]]
    if bad:
        text = f"{worst.upper()} {len(bad)}/{len(results)}" if len(results) > 1 else worst.upper()
        if bad[0]["value"]:
            text = f"{bad[0]['value']} ≠ {bad[0]['expected'] or '?'}"
        return Cell(worst, text)
    if valued:
        return Cell(worst, valued[0]["value"])
    c = counts(results)
    passed, skipped = c.passed, c.skipped
    if not passed:
        return Cell(SKIP, SKIP if skipped == 1 else f"skip {skipped}")
    text = PASS if passed == 1 else f"pass {passed}"
    return Cell(PASS, f"{text}, skip {skipped}" if skipped else text)


def rows(matrix: dict[str, Any]) -> list[tuple[str, dict[str, Cell]]]:
    """Row, and machine → cell: the suites in their order, each followed by its own rows."""
    grouped: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for suite in matrix["suites"]:
        grouped[suite, suite] = {}
    for result in matrix["results"]:
        key = (result["suite"], result["row"])
        grouped.setdefault(key, {}).setdefault(result["machine"], []).append(result)
    order = sorted(grouped, key=lambda key: int(matrix["suites"].index(key[0])))
    return [(row, {name: cell(results) for name, results in grouped[suite, row].items()})
            for suite, row in order if grouped[suite, row]]


def table(matrix: dict[str, Any], colour: bool) -> str:
    """The matrix for a terminal."""
    names = list(matrix["machines"])
    body = rows(matrix)
    first = max([len(row) for row, _ in body] + [3])
    widths = [max([len(name)] + [len(cells[name].text) for _, cells in body if name in cells])
              for name in names]
    lines = ["  ".join(["row".ljust(first), *(n.ljust(w) for n, w in zip(names, widths))])]
    lines.append("  ".join(["-" * first, *("-" * width for width in widths)]))
    for row, cells in body:
        line = [row.ljust(first)]
        for name, width in zip(names, widths):
            text = cells[name].text.ljust(width) if name in cells else " " * width
            if colour and name in cells:
                text = f"\033[{COLOURS.get(cells[name].status, '31')}m{text}\033[0m"
            line.append(text)
        lines.append("  ".join(line).rstrip())
    return "\n".join(lines)


def name_of(result: dict[str, Any]) -> str:
    test = "" if result["test"] == PROGRAM else f" {result['test']}"
    return f"{result['machine']} {result['suite']}{test}"


def details(matrix: dict[str, Any]) -> str:
    """Failures with a part of their logs and how to repeat them, then skips with reasons."""
    lines = []
    for result in matrix["results"]:
        if result["status"] not in GOOD:
            lines += [f"{result['status'].upper()} {name_of(result)}: {result['reason']}"]
            # What ended a program is at the end of its log, any other problem near the start.
            shown = result["log"][-15:] if result["test"] == PROGRAM else result["log"][:25]
            lines += [f"    {line}" for line in shown]
            lines += [f"  repeat: {result['repeat']}",
                      f"  log:    {OUT / result['machine'] / 'console.log'}"]
    skipped = [result for result in matrix["results"] if result["status"] == SKIP]
    lines += [f"skip {name_of(result)}: {result['reason']}" for result in skipped]
    return "\n".join(lines)


def junit(matrix: dict[str, Any]) -> bytes:
    root = xml.Element("testsuites", name="memtype")
    suites: dict[tuple[str, str], xml.Element] = {}
    for result in matrix["results"]:
        key = (result["machine"], result["suite"])
        if key not in suites:
            suites[key] = xml.SubElement(root, "testsuite", name=f"{key[0]}.{key[1]}",
                                         time=f"{result['seconds']:.1f}")
        case = xml.SubElement(suites[key], "testcase", classname=f"{key[0]}.{key[1]}",
                              name=result["test"])
        if result["status"] == SKIP:
            xml.SubElement(case, "skipped", message=printable(result["reason"]))
        elif result["status"] != PASS:
            kind = "failure" if result["status"] == FAIL else "error"
            problem = xml.SubElement(case, kind, type=result["status"],
                                     message=printable(result["reason"]))
            problem.text = printable("\n".join(result["log"]))
    for key, suite in suites.items():
        mine = [result for result in matrix["results"]
                if (result["machine"], result["suite"]) == key]
        suite.set("tests", str(len(mine)))
        suite.set("failures", str(sum(result["status"] == FAIL for result in mine)))
        suite.set("skipped", str(counts(mine).skipped))
        suite.set("errors", str(counts(mine).failed - int(suite.get("failures", "0"))))
    xml.indent(root)
    return bytes(xml.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def printable(text: str) -> str:
    """XML 1.0 has no control characters, not even escaped."""
    return "".join(char if char >= " " or char in "\n\t" else "?" for char in text)


def environment(values: dict[str, Any]) -> str:
    """The environment as an HTML table; a dictionary becomes a list in its cell."""
    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "<br>".join(f"{html.escape(k)}: {html.escape(str(v))}" for k, v in value.items())
        return html.escape(str(value))

    body = "".join(f"<tr><th>{html.escape(key)}</th><td>{text(value)}</td></tr>"
                   for key, value in values.items() if value != "")
    return f'<div class="wide"><table>{body}</table></div>'


def page(matrix: dict[str, Any]) -> str:
    """The whole report as one self-contained HTML page."""
    escape = html.escape
    names = list(matrix["machines"])
    c = counts(matrix["results"])
    passed, failed, skipped = c.passed, c.failed, c.skipped
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = ""
    for row, cells in rows(matrix):
        body += f"<tr><th>{escape(row)}</th>" + "".join(
            f'<td class="cell {cells[name].status}">{escape(cells[name].text)}</td>'
            if name in cells else "<td></td>" for name in names) + "</tr>\n"
    legend = "".join(f'<tr><td class="cell {status}">{status}</td><td>{escape(text)}</td></tr>'
                     for status, text in LEGEND.items())
    # A machine that could not boot has no console.
    booted = {result["machine"] for result in matrix["results"] if result["status"] != SKIP}
    consoles = {name: f'<a href="{escape(name)}/console.log">console</a>' for name in booted}
    machines = "".join(
        f'<tr><th>{escape(name)}</th><td>{escape(item["proves"])}</td>'
        f'<td>{escape(item["proves_not"])}</td>'
        f'<td>{consoles.get(name, "")}</td></tr>'
        for name, item in matrix["machines"].items())
    suites = "".join(
        f'<tr><th>{escape(name)}</th><td>{escape(item["proves"])}</td>'
        f'<td>{escape(item["proves_not"])}</td></tr>'
        for name, item in matrix["proofs"].items())
    failures = ""
    for result in matrix["results"]:
        if result["status"] not in GOOD:
            log = "\n".join(result["log"][-MAX_LOG:])
            failures += (
                f'<h3><span class="{result["status"]}">{result["status"]}</span> '
                f'{escape(name_of(result))}</h3><p>{escape(result["reason"])}</p>'
                f'<p>Repeat: <code>{escape(result["repeat"])}</code> · '
                f'<a href="{escape(result["machine"])}/console.log">the whole log</a></p>'
                f"<pre>{escape(log)}</pre>\n")
    skips = "".join(f"<li>{escape(name_of(result))}: {escape(result['reason'])}</li>"
                    for result in matrix["results"] if result["status"] == SKIP)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>memtype matrix</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>
<h1>memtype test matrix</h1>
<p><b>{passed} passed, {failed} failed, {skipped} skipped</b> on
{escape(matrix["environment"]["kernel"])}, commit {escape(matrix["environment"]["commit"])}</p>
<div class="wide"><table><tr><th>row</th>{head}</tr>
{body}</table></div>
<table><caption>Legend</caption>{legend}</table>
<h2>Failures</h2>
{failures or "<p>None.</p>"}
<h2>Skipped</h2>
{f"<ul>{skips}</ul>" if skips else "<p>None.</p>"}
<h2>What a pass proves</h2>
<div class="wide"><table><tr><th>machine</th><th>proves</th><th>does not prove</th><th>log</th></tr>
{machines}</table></div>
<div class="wide"><table><tr><th>test</th><th>proves</th><th>does not prove</th></tr>
{suites}</table></div>
<h2>Environment</h2>
{environment(matrix["environment"])}
</body></html>
"""


def report() -> int:
    """Write junit.xml and report.html, prints the table; 0 if nothing failed."""
    matrix = load()
    (OUT / "junit.xml").write_bytes(junit(matrix))
    (OUT / "report.html").write_text(page(matrix))
    c = counts(matrix["results"])
    passed, failed, skipped = c.passed, c.failed, c.skipped
    parts = [table(matrix, sys.stdout.isatty()), details(matrix), matrix["environment"]["note"],
             f"report: {OUT / 'report.html'}",
             f"matrix: {passed} passed, {failed} failed, {skipped} skipped"]
    say("\n" + "\n\n".join(part for part in parts if part))
    return 1 if failed or not passed else 0
