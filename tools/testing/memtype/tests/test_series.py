# SPDX-License-Identifier: GPL-2.0-only
"""Which commits `make bisect` builds; what `make series` writes is in test_tree.py."""

from __future__ import annotations

import contextlib
import unittest
from pathlib import Path
from unittest import mock

import matrix
import mutate
import series
import tables
import tree
from series import Step
from settings import ARCHES

# Of which the first one boots, and may skip what it likes
TESTS = [tables.Test("kunit", ["x86-amd"], skips={"x86-amd": {"a.test": "a reason"}}),
         tables.Test("kvm/a", ["x86-amd"])]
DOCUMENTS = ["Documentation/virt/kvm/memtype.rst", "tools/testing/selftests/kvm/memtype_test.c"]


class Bisect(unittest.TestCase):
    def bisect(self, changed: dict[str, list[str]], *, hook: str = "",
               bad: frozenset[tuple[str, str]] = frozenset()) -> tuple[int, list[tuple[str, str]]]:
        """The exit code, and the commits that were tried, as patch and architecture. The last one
        ends the group."""
        tried = []
        self.laid: list[str] = []

        def try_step(step: Step, arch: str, _: object, tests: list[tables.Test],
                     *_rest: object) -> str:
            self.assertEqual(self.laid[-1], step.commit)
            tried.append((step.patch.name, arch))
            self.booted = [(test.suite, test.skips) for test in tests]
            return "does not build" if (step.patch.name, arch) in bad else ""

        steps = [Step(Path(name), "a group", name, name == list(changed)[-1]) for name in changed]
        for owner, name, stand_in in (
                (tree, "lay", lambda kernel: None), (series, "compose", lambda onto: steps),
                (tables, "all_machines", dict), (tables, "all_tests", lambda machines: TESTS),
                (matrix, "build_for", lambda *_: None), (mutate, "HOOK", hook),
                (mutate, "checked_out", lambda commit, programs: contextlib.nullcontext()),
                (mutate, "checkout", lambda where: self.laid.append(where)),
                (series, "git", lambda *args: "\n".join(changed[args[-1]])),
                (series, "try_step", try_step), (series, "say", lambda _: None),
                (matrix, "Progress", lambda names: lambda *_: None)):
            self.enterContext(mock.patch.object(owner, name, stand_in))
        return series.bisect(), tried

    def test_what_a_commit_concerns(self) -> None:
        """One that changes nothing of a kernel is not built for it; the last one is, and booted."""
        self.assertEqual(list(ARCHES), ["x86_64", "arm64"])
        code, tried = self.bisect({"1.patch": ["mm/a.c"], "2.patch": DOCUMENTS,
                                   "3.patch": ["arch/arm64/kvm/mmu.c"],
                                   "4.patch": ["arch/x86/kvm/mmu/mmu.c", *DOCUMENTS],
                                   "5.patch": DOCUMENTS})
        self.assertEqual(code, 0)
        self.assertEqual(self.booted, [("kunit", {})])
        self.assertEqual(tried, [("1.patch", "x86_64"), ("1.patch", "arm64"), ("3.patch", "arm64"),
                                 ("4.patch", "x86_64"), ("5.patch", "x86_64"),
                                 ("5.patch", "arm64")])

    def test_after_one_that_was_left_out(self) -> None:
        """Nobody knows what the commit before comes to."""
        _, tried = self.bisect({"0001-a.patch": ["mm/a.c"], "0002-b.patch": DOCUMENTS,
                                "0003-c.patch": ["mm/a.c"]}, hook="2")
        self.assertEqual(tried, [("0002-b.patch", "x86_64"), ("0002-b.patch", "arm64")])

    def test_after_a_bad_one(self) -> None:
        code, tried = self.bisect({"1.patch": ["mm/a.c"], "2.patch": DOCUMENTS,
                                   "3.patch": ["mm/a.c"]}, bad=frozenset({("1.patch", "arm64")}))
        self.assertEqual(code, 1)
        self.assertIn(("2.patch", "arm64"), tried)
        self.assertNotIn(("2.patch", "x86_64"), tried)


if __name__ == "__main__":
    unittest.main()
