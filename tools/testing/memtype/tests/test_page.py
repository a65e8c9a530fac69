# SPDX-License-Identifier: GPL-2.0-only
"""report.html, from a matrix.json that has one of everything."""

from __future__ import annotations

import re
import unittest
from html.parser import HTMLParser
from typing import Any

import page
from results import STATUSES
from sample import LOG, MATRIX, matrix, result, row

EMPTY = ("meta", "br", "wbr", "input")


class Tags(HTMLParser):
    """The tags with their attributes and the text in them, up to the next tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {name: value or "" for name, value in attrs}))
        self.text.append("")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.text:
            self.text[-1] += data.rstrip("\n")

    def find(self, tag: str, **values: str) -> list[int]:
        """Where there is this tag with these classes or values."""
        return [place for place, (name, attrs) in enumerate(self.seen)
                if name == tag and all(value in attrs.get(key, "").split()
                                       for key, value in values.items())]


def cells(tags: Tags) -> list[tuple[str, str, str]]:
    """Status, text and link of each cell that has results, where text may be in the link."""
    found = []
    for place in tags.find("td"):
        attrs = tags.seen[place][1]
        if "data-s" in attrs:
            link = tags.seen[place + 1][1].get("href", "") if place + 1 < len(tags.seen) and (
                tags.seen[place + 1][0] == "a") else ""
            text = tags.text[place] or tags.text[place + 1]
            found.append((attrs["class"], text, link))
    return found


class Page(unittest.TestCase):
    def setUp(self) -> None:
        self.html = page.page(MATRIX)
        self.tags = Tags(self.html)

    def test_well_formed(self) -> None:
        for one in (MATRIX, matrix(result("pass")), matrix()):
            self.assertEqual(Tags(page.page(one)).open, [])

    def test_self_contained(self) -> None:
        self.assertNotIn("http", self.html)
        self.assertNotIn("@import", self.html)
        self.assertNotIn("url(", self.html)
        self.assertEqual(len(self.tags.find("script")), 1)
        for tag, attrs in self.tags.seen:
            self.assertNotIn("src", attrs, tag)
            self.assertNotEqual(tag, "link")

    def test_escaped(self) -> None:
        self.assertEqual(self.html.count("<script"), 1)
        self.assertEqual(self.html.count("&lt;script&gt;"), 1)
        self.assertNotIn("<device>", self.html)
        self.assertNotIn("<instructions>", self.html)
        self.assertIn("&lt;instructions&gt;", self.html)

    def test_order(self) -> None:
        places = [self.html.index(text) for text in (
            "6 failures, 5 causes", ">Failures</h2>", 'id="failure-1"', 'id="filter"',
            ">Suites</h2>", ">Memory types and other rows</h2>", ">Expected failures</h2>",
            ">Skipped</h2>", ">What a pass proves</h2>", ">Environment</h2>", "<script>")]
        self.assertEqual(places, sorted(places))

    def test_verdict(self) -> None:
        for results, said, good in (([result("pass")], "Nothing failed", True),
                                    ([result("pass"), result("fail")], "1 failure, 1 cause", False),
                                    ([result("skip")], "Nothing passed", False)):
            tags = Tags(page.page(matrix(*results)))
            place, = tags.find("p", **{"class": "verdict"})
            self.assertEqual(tags.text[place], said)
            self.assertEqual(bool(tags.find("p", **{"class": "good"})), good)

    def test_links_lead_somewhere(self) -> None:
        ids = [attrs["id"] for _, attrs in self.tags.seen if "id" in attrs]
        self.assertEqual(len(ids), len(set(ids)))
        targets = {attrs["href"] for tag, attrs in self.tags.seen if tag == "a"}
        self.assertLessEqual({target for target in targets if target.startswith("#")},
                             {f"#{one}" for one in ids})
        self.assertEqual({target for target in targets if not target.startswith("#")},
                         {f"{name}/console.log" for name in "abc"})

    def test_no_console_without_a_boot(self) -> None:
        self.assertNotIn("console.log", page.page(matrix(result("skip"), result(
            "not run", test="u", cause="a s t"))))

    def test_each_failing_cell_leads_to_its_failure(self) -> None:
        found = [cell for cell in cells(self.tags) if {"failed", "not-run"} & set(cell[0].split())]
        # "all suites" on three machines, then two suites, three machines, two suites, two rows
        self.assertEqual(len(found), 3 + 2 + 3 + 3 + 2)
        for classes, text, link in found:
            self.assertRegex(link, r"^#failure-\d$", (classes, text))
        wrong = {link for _, text, link in found if "≠" in text}
        self.assertEqual(len(wrong), 1)
        place, = self.tags.find("article", id=wrong.pop()[1:])
        titles = [text for (tag, _), text in zip(self.tags.seen[place:], self.tags.text[place:])]
        self.assertIn("fail other guest WC", " ".join("".join(titles[:4]).split()))
        self.assertEqual([link for classes, _, link in cells(self.tags)
                          if not {"failed", "not-run"} & set(classes.split()) and link], [])

    def test_log_once(self) -> None:
        self.assertEqual(self.html.count("line 7 of the log"), 1)
        place, = [place for place in self.tags.find("pre") if "line 7 of" in self.tags.text[place]]
        self.assertEqual(self.tags.text[place].splitlines(), LOG)

    def test_same_log(self) -> None:
        found = page.page(matrix(*(result("fail", test=f"t{count}", log=["the end"])
                                   for count in range(2))))
        self.assertEqual(found.count("the end"), 1)
        self.assertIn('<a href="#failure-1">The log is the same.</a>', found)

    def test_what_did_not_run(self) -> None:
        self.assertIn("2 suites on a did not run because of it</summary>s/after, s/last<",
                      self.html)

    def test_every_status_is_styled(self) -> None:
        for status in STATUSES:
            name = status.replace(" ", "-")
            self.assertIn(status, page.LEGEND)
            self.assertIn(f".{name} {{ background: var(--{name}) }}", page.STYLE)
            # light and dark
            self.assertEqual(len(set(re.findall(rf"--{name}: (#\w+)", page.STYLE))), 2)
            tags = Tags(page.page(matrix(result(status, cause="a s u"), result("fail", test="u"))))
            self.assertTrue(tags.find("span", **{"class": name}))

    def test_columns(self) -> None:
        """What no row of a table uses is left out, and many names are turned."""
        one = matrix(*(row(f"{prefix}: row {count}", name, "WC") for name, prefix
                       in (("a", "p"), ("b", "p"), ("b", "q")) for count in range(10)))
        grids = page.page(one).split('<table class="grid">')[1:]
        self.assertEqual([re.findall(r'<th class="(m\d)"><span>(\w)', grid) for grid in grids],
                         [[("m0", "a"), ("m1", "b")], [("m0", "a"), ("m1", "b")], [("m1", "b")]])
        names = tuple(f"m-{count}" for count in range(15))
        many = page.page(matrix(*(result("pass", machine=name) for name in names), machines=names))
        self.assertEqual(many.count(" turned"), 15)

    def test_groups(self) -> None:
        def folds(count: int) -> list[str]:
            found = Tags(page.page(matrix(*(row(f"{prefix}row {place}", "a", "WC") for prefix in (
                "", "legacy: ", "legacy, DMA: ") for place in range(count)))))
            return [found.seen[place - 1][1].get("class", "") + "|" + found.text[place].strip()
                    for place in found.find("summary")][1:]

        self.assertEqual(folds(4), ["group suite|other"])
        self.assertEqual(folds(5), ["suite|other", "group|rows without a prefix", "group|legacy:",
                                    "group|legacy, DMA:"])

    def test_failing_group_is_open(self) -> None:
        for value, is_open in (("WC", False), ("WB", True)):
            tags = Tags(page.page(matrix(row("r", "a", value, "WC"))))
            place, = tags.find("details", **{"class": "group"})
            self.assertEqual("open" in tags.seen[place][1], is_open)

    def test_filter(self) -> None:
        """Nothing of it shows without the script, and it offers what cells have."""
        place, = self.tags.find("form")
        self.assertIn("hidden", self.tags.seen[place][1])
        offered: dict[str, set[str]] = {}
        for found in self.tags.find("input"):
            attrs = self.tags.seen[found][1]
            offered.setdefault(attrs["name"], set()).add(attrs["value"])
        self.assertEqual(offered["machine"], {"m0", "m1", "m2"})
        self.assertEqual(offered["status"], {"", "failed", "not-run", "xfail", "skip", "pass"})
        has: dict[Any, Any] = {attrs["data-s"]: attrs["class"].split()[0]
                               for _, attrs in self.tags.seen if "data-s" in attrs}
        statuses = {one for some in has for one in some.split(",")}
        self.assertLessEqual(offered["status"] - {""}, statuses)

    def test_environment(self) -> None:
        self.assertIn("<tr><th>tools</th><td>gcc: 12</td></tr>", self.html)
        self.assertNotIn("<th>note</th>", self.html)


if __name__ == "__main__":
    unittest.main()
