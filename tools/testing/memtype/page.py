# SPDX-License-Identifier: GPL-2.0-only
"""report.html: one page that needs nothing else and can be read without its script.

What must be looked at comes first: the verdict and the failures, then suites by machine, then the
rows of memory types, which fold. The script only hides what a reader does not want to see.
"""

from __future__ import annotations

import html
import re
from typing import Any

import summary
from results import CRASH, FAIL, HANG, NOT_RUN, PASS, PROGRAM, SKIP, TIMEOUT, XFAIL
from summary import Causes, Cell, Failure, Record, Table, number

LEGEND = {
    PASS: "as expected; of a row, its value is shown, “forced” where the guest's own choice is "
          "ignored as expected",
    XFAIL: "fails as expected, because this kernel lacks what is tested",
    SKIP: "cannot run on this machine, which is expected",
    NOT_RUN: "did not run because of a failure, to which it leads; not counted as one",
    FAIL: "not as expected, a bad exit code, or a report of the kernel's",
    CRASH: "killed, no end mark, or the machine ended under it",
    HANG: "the emulator used no CPU time and nothing came on the console",
    TIMEOUT: "over its time limit",
}
# A suite with so many rows is one group.
WHOLE = 12
STYLE = """
:root { color-scheme: light dark; --text: #1d2126; --dim: #5c6570; --back: #fff; --head: #f1f3f5;
  --line: #d5d9de; --link: #0b57a4; --hover: #0000000f; --pass: #e3f4e6; --xfail: #d8ebf8;
  --skip: #fff2c9; --not-run: #e6e1f6; --fail: #f8c9c5; --crash: #f2aaa3; --hang: #f5b8d2;
  --timeout: #f8cba4; --bad: #b3261e; --good: #1b6e34 }
@media (prefers-color-scheme: dark) { :root { --text: #dfe3e8; --dim: #98a2ad; --back: #15181c;
  --head: #22272d; --line: #3a4149; --link: #82b7f2; --hover: #ffffff14; --pass: #163320;
  --xfail: #15364c; --skip: #453a12; --not-run: #352f55; --fail: #702a26; --crash: #8a2019;
  --hang: #702448; --timeout: #71400f; --bad: #ff8a80; --good: #7fd69a } }
* { box-sizing: border-box }
body { font: 14px/1.45 system-ui, sans-serif; margin: 0; padding: 1em 1.5em 4em; color: var(--text);
  background: var(--back) }
h1 { font-size: 1.3em; margin: 0 } h2 { font-size: 1.2em; margin: 2em 0 .5em }
h3 { font-size: 1em; margin: 0 } p { margin: .4em 0; max-width: 75em }
a { color: var(--link) } td a { color: inherit }
.verdict { font-size: 1.6em; font-weight: 600; color: var(--bad) }
.verdict.good { color: var(--good) }
.dim { color: var(--dim) }
table { border-collapse: separate; border-spacing: 0; border-top: 1px solid var(--line);
  border-left: 1px solid var(--line) }
th, td { border: solid var(--line); border-width: 0 1px 1px 0; padding: .15em .5em;
  text-align: left; vertical-align: top }
th { background: var(--head); font-weight: 500 }
thead th { position: sticky; top: 0; z-index: 2; vertical-align: bottom }
th:first-child { position: sticky; left: 0; z-index: 1 } thead th:first-child { z-index: 3 }
.grid td { text-align: center; font-size: 13px; padding: .15em .35em; min-width: 2.7em }
.grid tbody tr:hover > * { box-shadow: inset 0 0 0 99px var(--hover) }
.turned span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap }
.turned { padding: .4em .2em; text-align: center }
.pass { background: var(--pass) } .xfail { background: var(--xfail) }
.skip { background: var(--skip) } .not-run { background: var(--not-run) }
.fail { background: var(--fail) } .crash { background: var(--crash) }
.hang { background: var(--hang) } .timeout { background: var(--timeout) }
td.failed { font-weight: 600 }
.badge { border-radius: .3em; padding: .1em .5em; font-weight: 600 }
.failure { border: 1px solid var(--line); border-left: .4em solid var(--bad); border-radius: .3em;
  padding: .6em 1em; margin: .8em 0 } .failure:target { outline: 2px solid var(--link) }
.failure ul { margin: .3em 0; padding-left: 1.5em }
pre { background: var(--head); padding: .6em; margin: .4em 0; overflow: auto; max-height: 24em;
  font-size: 12px } code { background: var(--head); padding: .1em .3em; overflow-wrap: anywhere }
details { margin: .3em 0 } :is(details) details { margin-left: 1.2em }
details table { margin: .4em 0 }
summary { cursor: pointer } .suite > summary { font-weight: 600 }
form { border: 1px solid var(--line); border-radius: .3em; padding: .5em 1em; margin: 1em 0 }
form p { display: flex; flex-wrap: wrap; gap: .2em 1em; max-width: none; align-items: baseline }
form b { min-width: 5.5em } label { white-space: nowrap } [hidden] { display: none !important }
.wide td { overflow-wrap: anywhere }
"""
SCRIPT = """
const form = document.getElementById("filter");
const style = document.head.appendChild(document.createElement("style"));
const boxes = [...form.querySelectorAll("[name=machine]")];

function apply() {
  const chosen = boxes.filter(box => box.checked).map(box => box.value);
  const status = form.querySelector("[name=status]:checked").value;
  const unseen = boxes.filter(box => chosen.length && !box.checked).map(box => box.value);
  const seen = one => !unseen.some(name => one.classList.contains(name));
  style.textContent = unseen.length ? unseen.map(name => ".grid ." + name).join() +
    " { display: none }" : "";
  for (const row of document.querySelectorAll(".grid tbody tr"))
    row.hidden = ![...row.querySelectorAll("td[data-s]")].some(cell => seen(cell) &&
      (!status || cell.dataset.s.split(",").includes(status)));
  for (const part of document.querySelectorAll("details.group, details.suite")) {
    part.hidden = !part.querySelector("tbody tr:not([hidden])");
    if (status) part.open = true;
  }
  for (const failure of document.querySelectorAll(".failure"))
    failure.hidden = chosen.length && !chosen.some(name => failure.classList.contains(name));
}

form.hidden = false;
form.addEventListener("change", apply);
form.addEventListener("reset", () => setTimeout(apply));
document.getElementById("unfold").addEventListener("click", () => {
  const groups = [...document.querySelectorAll("details.group")];
  const open = groups.some(group => !group.open);
  for (const group of groups) group.open = open;
});
for (const log of document.querySelectorAll("pre.tail")) log.scrollTop = log.scrollHeight;
apply();
"""


def escape(text: Any) -> str:
    return html.escape(str(text))


def breakable(text: str, after: str = "/_-") -> str:
    """Escaped text that may be broken after these characters, so that columns can be narrow."""
    return re.sub(rf"([{after}])(?=\w)", r"\1<wbr>", escape(text))


def slug(status: str) -> str:
    return status.replace(" ", "-")


def rows_of(lines: list[list[str]], heads: list[str]) -> str:
    """A plain table from lines of HTML cells, the first of each a head."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr><th>{first}</th>{''.join(f'<td>{cell}</td>' for cell in others)}</tr>\n"
                   for first, *others in lines)
    return (f'<table class="wide">{f"<thead><tr>{head}</tr></thead>" if heads else ""}'
            f"<tbody>{body}</tbody></table>")


class Page:
    """The parts of the page, from one matrix.json."""

    def __init__(self, matrix: dict[str, Any]) -> None:
        self.matrix = matrix
        self.results: list[Record] = matrix["results"]
        self.causes = Causes(self.results)
        self.failures = summary.failures(self.results)
        self.total = summary.counts(self.results, self.causes)
        # Which failure a result belongs to, by identity.
        self.places = {id(result): f"failure-{count}"
                       for count, failure in enumerate(self.failures, 1)
                       for result in failure.results + failure.victims}
        # The classes of the machines' columns.
        self.classes = {name: f"m{count}" for count, name in enumerate(matrix["machines"])}
        # A machine that could not boot has no console.
        self.consoles = {result["machine"]: result["console"] for result in reversed(self.results)
                         if result["console"]}

    def console(self, machine: str, text: str, console: str = "") -> str:
        """The text, as a link to a console of the machine's, if it has one."""
        console = console or self.consoles.get(machine, "")
        return f'<a href="{escape(console)}">{escape(text)}</a>' if console else escape(text)

    def header(self) -> str:
        environment, total = self.matrix["environment"], self.total
        verdict = "Nothing passed" if not total.passed else "Nothing failed" if total.good() else (
            f"{number(total.failed, 'failure')}, {number(len(self.failures), 'cause')}")
        note = f"<p><b>{escape(environment['note'])}</b></p>" if environment["note"] else ""
        return f"""<h1>memtype test matrix</h1>
<p class="verdict{' good' if total.good() else ''}">{verdict}</p>
<p>{total} on {number(len(self.matrix["machines"]), "machine")}</p>
<p class="dim">Linux {escape(environment["kernel"])}, commit {escape(environment["commit"])},
{escape(environment["date"].replace("T", " "))}, <code>{escape(environment["command"])}</code></p>
{note}"""

    def filter(self) -> str:
        machines = "".join(
            f'<label><input type="checkbox" name="machine" value="{self.classes[name]}"> '
            f"{escape(name)}</label>" for name in self.matrix["machines"])
        statuses = "".join(
            f'<label><input type="radio" name="status" value="{value}"{checked}> {text}</label>'
            for value, text, checked in (
                ("", "all", " checked"), ("failed", "failed", ""), (slug(NOT_RUN), "not run", ""),
                (XFAIL, "expected failure", ""), (SKIP, "skipped", ""), (PASS, "passed", "")))
        return f"""<form id="filter" hidden>
<p><b>Machines</b> {machines}</p>
<p><b>Status</b> {statuses} <button type="reset">show all</button>
<button type="button" id="unfold">open or fold all rows</button></p></form>"""

    def failure(self, count: int, failure: Failure, unfold: bool) -> str:
        first = failure.first
        classes = " ".join(self.classes[name] for name in summary.distinct(
            result["machine"] for result in failure.results + failure.victims))
        consoles = {result["machine"]: result["console"] for result in failure.results}
        machines = ", ".join(self.console(name, name, consoles.get(name, ""))
                             for name in failure.machines)
        parts = [f'<h3><span class="badge {slug(failure.status)}">{failure.status}</span> '
                 f"{escape(failure.title())}</h3>", f"<p>{escape(first['reason'])}</p>",
                 f"<p>on {machines}</p>"]
        rows = "".join(f"<li>{escape(name)}: {escape(', '.join(names))}</li>"
                       for name, names in failure.rows().items())
        parts += [f"<ul>{rows}</ul>"] if rows else []
        if failure.victims:
            names = summary.distinct(result["suite"] for result in failure.victims)
            parts.append(f"<details><summary>{escape(failure.consequences())} did not run because "
                         f"of it</summary>{escape(', '.join(names))}</details>")
        parts.append(f"<p>Repeat: <code>{escape(first['repeat'])}</code></p>")
        same = next((before for before, one in enumerate(self.failures[:count - 1], 1)
                     if one.first["log"] == first["log"]), 0)
        if first["log"] and same:
            parts.append(f'<p><a href="#failure-{same}">The log is the same.</a></p>')
        elif first["log"]:
            tail = ' class="tail"' if first["test"] == PROGRAM else ""
            parts.append(
                f"<details{' open' if unfold else ''}><summary>Log of {escape(first['machine'])}, "
                f"{number(len(first['log']), 'line')}</summary>"
                f"<pre{tail}>{escape(chr(10).join(first['log']))}</pre></details>")
        return (f'<article class="failure {classes}" id="failure-{count}">\n'
                + "\n".join(parts) + "\n</article>")

    def failed(self) -> str:
        unfold = len(self.failures) <= 3
        return "\n".join(self.failure(count, failure, unfold)
                         for count, failure in enumerate(self.failures, 1)) or "<p>None.</p>"

    def cell(self, cell: Cell | None, machine: str) -> str:
        """What does not stand for itself leads to the failure that explains it."""
        if not cell:
            return f'<td class="{self.classes[machine]}"></td>'
        has = summary.distinct(slug(result["status"]) for result in cell.results)
        has += ["failed"] if cell.failed else []
        classes = [self.classes[machine], slug(cell.status)]
        classes += ["failed"] if cell.failed else []
        text = breakable(cell.text, ",:")
        place = next((self.places[id(result)] for result in cell.results
                      if id(result) in self.places), "")
        if place:
            text = f'<a href="#{place}">{text}</a>'
        counts = summary.counts(cell.results, self.causes)
        return (f'<td class="{" ".join(classes)}" data-s="{",".join(has)}" '
                f'title="{escape(machine)}: {counts}">{text}</td>')

    def grid(self, table: Table, corner: str) -> str:
        """A table with a column for each machine; their names are turned if they are many."""
        turned = len(table.machines) > 8
        heads = "".join(
            f'<th class="{self.classes[name]}{" turned" if turned else ""}">'
            f"<span>{escape(name) if turned else breakable(name)}</span></th>"
            for name in table.machines)
        body = "".join(
            f"<tr><th>{breakable(row)}</th>" + "".join(
                self.cell(table.cells.get((row, machine)), machine) for machine in table.machines)
            + "</tr>\n" for row in table.rows)
        return (f'<table class="grid"><thead><tr><th>{corner}</th>{heads}</tr></thead>\n'
                f"<tbody>{body}</tbody></table>")

    def suites(self) -> str:
        found = {"all suites": self.results, **summary.by_suite(self.matrix)}
        return self.grid(summary.table(self.matrix["machines"], found, lambda results:
                                       summary.suite_cell(results, self.causes)), "suite")

    def group(self, name: str, rows: dict[str, list[Record]], kind: str) -> str:
        table = summary.table(self.matrix["machines"], rows, lambda results:
                              summary.row_cell(results, self.causes))
        return self.fold(name, rows, kind, self.grid(table, "row"))

    def fold(self, name: str, rows: dict[str, list[Record]], kind: str, body: str) -> str:
        """Something that folds, with what one must know to leave it folded."""
        bad = sum(self.causes.failed(result) for results in rows.values() for result in results)
        badge = f' <span class="badge fail">{bad} failed</span>' if bad else ""
        unfold = " open" if bad or kind == "suite" else ""
        return (f'<details class="{kind}"{unfold}><summary>{escape(name)} <span class="dim">'
                f"{number(len(rows), 'row')}</span>{badge}</summary>\n"
                f"{body}</details>\n")

    def types(self) -> str:
        """The rows, by suite and, if they are many, by what is before the colon in their names."""
        parts = []
        for suite, results in summary.by_suite(self.matrix).items():
            rows = summary.type_rows(results)
            groups: dict[str, dict[str, list[Record]]] = {}
            for row, found in rows.items():
                groups.setdefault("".join(row.partition(": ")[:2]) if ": " in row else "",
                                  {})[row] = found
            if len(rows) > WHOLE and len(groups) > 1:
                parts.append(self.fold(suite, rows, "suite", "".join(
                    self.group(name or "rows without a prefix", some, "group")
                    for name, some in groups.items())))
            elif rows:
                parts.append(self.group(suite, rows, "group suite"))
        return "".join(parts) or "<p>None.</p>"

    def legend(self) -> str:
        return rows_of([[f'<span class="badge {slug(status)}">{status}</span>', escape(text)]
                        for status, text in LEGEND.items()], [])

    def folded(self, status: str) -> str:
        """The results of a status by reason, each a list that folds."""
        return "".join(
            f"<details><summary>{len(same)} × {escape(same[0]['reason'])} "
            f'<span class="dim">{escape(summary.where(same))}</span></summary><ul>'
            + "".join(f"<li>{escape(summary.name_of(result))}</li>" for result in same)
            + "</ul></details>\n"
            for same in summary.folded([result for result in self.results
                                        if result["status"] == status])) or "<p>None.</p>"

    def machines(self) -> str:
        return rows_of([[self.console(name, name), f"{item['seconds']:.0f}&nbsp;s",
                         str(item["boots"]), escape(item["proves"]), escape(item["proves_not"])]
                        for name, item in self.matrix["machines"].items()],
                       ["machine, console", "time", "boots", "proves", "does not prove"])

    def proofs(self) -> str:
        return rows_of([[breakable(name), escape(item["proves"]), escape(item["proves_not"])]
                        for name, item in self.matrix["proofs"].items()],
                       ["suite", "proves", "does not prove"])

    def environment(self) -> str:
        def text(value: Any) -> str:
            if isinstance(value, dict):
                return "<br>".join(f"{escape(key)}: {escape(one)}" for key, one in value.items())
            return f"<pre>{escape(value)}</pre>" if "\n" in str(value) else escape(value)

        return rows_of([[escape(key), text(value)]
                        for key, value in self.matrix["environment"].items() if value != ""], [])

    def page(self) -> str:
        return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<title>memtype: {self.total.passed} passed, {self.total.failed} failed</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>
{self.header()}
<h2>Failures</h2>
{self.failed()}
{self.filter()}
<h2>Suites</h2>
<p>A number says how many tests passed, 53/65 how many of how many, where the others were skipped or
failed as expected; “fail 2/65” says how many failed. A link leads to the failure that explains the
cell. An empty cell: not a test of this machine.</p>
{self.suites()}
<details><summary>What the colours mean</summary>{self.legend()}</details>
<h2>Memory types and other rows</h2>
<p>What the tests of a suite report.</p>
{self.types()}
<h2>Expected failures</h2>
{self.folded(XFAIL)}
<h2>Skipped</h2>
{self.folded(SKIP)}
<h2>What a pass proves</h2>
{self.machines()}
<p></p>
{self.proofs()}
<h2>Environment</h2>
{self.environment()}
<script>{SCRIPT}</script>
</body></html>
"""


def page(matrix: dict[str, Any]) -> str:
    """The whole report as one self-contained HTML page."""
    return Page(matrix).page()
