# SPDX-License-Identifier: GPL-2.0-only
"""make compat, on two matrix.json that differ in one thing or another."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import build
import compat
import matrix
import settings
import tables
from results import KUNIT
from tables import Test


def matrix_json(*results: tuple[str, str]) -> dict[str, Any]:
    """Of tests with their statuses, all of one suite."""
    return {"environment": {}, "results": [
        {"machine": "m", "suite": "s", "test": test, "status": status}
        for test, status in results]}


class Compare(unittest.TestCase):
    def differences(self, base: dict[str, Any], patched: dict[str, Any]) -> list[tuple[str, ...]]:
        return [tuple(one[name] for name in compat.FIELDS)
                for one in compat.differences(base, patched)]

    def test_same(self) -> None:
        same = matrix_json(("a", "pass"), ("b", "fail"), ("c", "skip"))
        self.assertEqual(self.differences(same, same), [])

    def test_mended(self) -> None:
        """What the base is expected to fail, and passes with our patches, is no difference."""
        one, other = matrix_json(("a", "xfail")), matrix_json(("a", "pass"))
        self.assertEqual(self.differences(one, other), [])
        self.assertEqual(self.differences(other, one), [("m", "s", "a", "pass", "xfail")])

    def test_other_status(self) -> None:
        for one, other in (("pass", "fail"), ("fail", "pass"), ("pass", "skip"),
                           ("fail", "timeout")):
            self.assertEqual(
                self.differences(matrix_json(("a", one)), matrix_json(("a", other))),
                [("m", "s", "a", one, other)])

    def test_missing(self) -> None:
        both = matrix_json(("a", "pass"), ("kernel log", "fail"))
        one = matrix_json(("a", "pass"))
        self.assertEqual(self.differences(one, both), [("m", "s", "kernel log", "-", "fail")])
        self.assertEqual(self.differences(both, one), [("m", "s", "kernel log", "fail", "-")])

    def test_one_of_two_with_the_same_name(self) -> None:
        self.assertEqual(self.differences(matrix_json(("a", "pass"), ("a", "pass")),
                                          matrix_json(("a", "pass"), ("a", "fail"))),
                         [("m", "s", "a", "pass, pass", "pass, fail")])

    def test_exit_status(self) -> None:
        for base, patched, expected in (("pass", "pass", 0), ("pass", "fail", 1),
                                        ("fail", "fail", 1)):
            with self.subTest(base + patched), tempfile.TemporaryDirectory() as scratch, \
                    mock.patch.object(compat, "OUT", Path(scratch)), \
                    contextlib.redirect_stdout(io.StringIO()) as said:
                for kernel, status in (("base", base), ("patched", patched)):
                    out = Path(scratch) / "compat" / kernel
                    out.mkdir(parents=True)
                    (out / "matrix.json").write_text(json.dumps(matrix_json(("a", status))))
                self.assertEqual(compat.report(), expected)
                results = json.loads((Path(scratch) / "compat.json").read_text())["results"]
                self.assertEqual(len(results), base != patched)
            if results:
                self.assertIn("m        s      a     pass  fail", said.getvalue())
            # What fails on both is no difference, but it is said.
            self.assertEqual("fails on both kernels" in said.getvalue(), base == "fail")

    def test_not_run(self) -> None:
        """A machine that boots with neither kernel shows no difference, and proves nothing."""
        with tempfile.TemporaryDirectory() as scratch, \
                mock.patch.object(compat, "OUT", Path(scratch)), \
                contextlib.redirect_stdout(io.StringIO()):
            for kernel in ("base", "patched"):
                out = Path(scratch) / "compat" / kernel
                out.mkdir(parents=True)
                ran = matrix_json(("a", "not run"), ("b", "pass"))
                ran["results"][0]["cause"] = "boot"
                (out / "matrix.json").write_text(json.dumps(ran))
            self.assertEqual(compat.report(), 1)


class Selection(unittest.TestCase):
    def test_suites(self) -> None:
        tests = {test.suite: test for test in tables.all_tests(tables.all_machines())}
        self.assertFalse(tables.is_ours(tests["kvm/set_memory_region_test"]))
        self.assertTrue(tables.is_ours(tests["kvm/memtype_test"]))
        self.assertTrue(tables.is_ours(Test("another-name", [], program="memtype/misbehave")))

    def test_what_runs(self) -> None:
        with mock.patch.object(matrix, "run_matrix") as run:
            compat.measure()
        machines, tests, out = run.call_args.args
        self.assertEqual(set(machines), {
            name for name, item in tables.all_machines().items() if item.compat})
        suites = {test.suite for test in tests}
        self.assertIn("kvm/set_memory_region_test", suites)
        self.assertFalse(suites & {KUNIT, "kvm/memtype_test", "kvm/memtype_host_test"})
        self.assertEqual(out.parts[-2], "compat")
        self.assertIn("-accel tcg,thread=single -smp 2", machines["x86-amd"].command)
        self.assertIn("-accel tcg -smp 2", tables.all_machines()["x86-amd"].command)
        self.assertIn(" vfio-pci.ids=", machines["x86-amd"].cmdline)
        self.assertNotIn("vfio-pci.ids", tables.all_machines()["x86-amd"].cmdline)

    def test_slow_programs_are_built(self) -> None:
        """Those of tests that only make compat runs."""
        slow = {Path(test.program.removesuffix(".sh"))
                for test in tables.all_tests(tables.all_machines())
                if test.slow and "x86-amd" in test.machines}
        for target in ("compat", "matrix"):
            with mock.patch.object(settings, "TARGET", target), \
                    mock.patch.object(build, "make"), mock.patch.object(build, "PROGRAMS", []), \
                    mock.patch.object(build, "selftest_programs") as made:
                build.selftests("x86_64")
            built = {path for call in made.call_args_list for path in call.args[2]}
            self.assertTrue(built)
            self.assertEqual(slow <= built, target == "compat")


if __name__ == "__main__":
    unittest.main()
