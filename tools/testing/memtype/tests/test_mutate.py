# SPDX-License-Identifier: GPL-2.0-only
"""make mutate, on a kernel of one file, with builds and boots that only look at that file."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import build
import matrix
import mutate
import settings
import tree
from results import CRASH, FAIL, NOT_RUN, PASS, PROGRAM, SKIP, TIMEOUT, Result
from settings import ARCHES, TREES, Error
from test_tree import KCONFIG, MAKEFILE

MACHINE, SUITE = "arm64-fwb", "kvm/get-reg-list"
FIRST, SECOND = f"{MACHINE} {SUITE} the first test", "build"


class Mutate(unittest.TestCase):
    """Hook 1 sets OPTION_3, hook 2 OPTION_9; the first test passes if OPTION_3 is set."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        top = Path(scratch.name)
        self.linux, self.patches, self.out = top / "linux", top / "patches", top / "out"
        self.selftests = top / "selftests"
        self.kconfig = self.linux / "mm/Kconfig"
        self.kconfig.parent.mkdir(parents=True)
        self.kconfig.write_text(KCONFIG)
        (self.linux / "Makefile").write_text(MAKEFILE)
        self.git("init", "-q", "-b", "memtype")
        self.commit("base")
        self.base = self.git("rev-parse", "HEAD")
        self.hook("OPTION_3", f"mm: First\n\nRed-without: {FIRST}")
        self.hook("OPTION_9", f"mm: Second\n\nRed-without: {SECOND}")
        self.head = self.git("rev-parse", "HEAD")
        self.format()

        self.broken: set[str] = set()       # options without which it does not build
        self.status, self.without = PASS, FAIL      # of the first test, with and without OPTION_3
        self.before: list[Result] = []      # before it, with and without OPTION_3
        self.others: list[Result] = []      # besides it, without OPTION_3
        self.boots: list[str] = []
        base = tree.Base(self.base, "6.12.117", self.patches)
        self.equipped: list[list[str]] = []
        for owner, name, stand_in in (
                (mutate, "git", functools.partial(tree.git, tree=self.linux)),
                (mutate, "MUTATIONS", top / "mutations"), (mutate, "BUILD", top),
                (mutate, "OUT", self.out), (mutate, "HOOK", ""),
                (tree, "lay", lambda kernel: base), (build, "selftests", lambda arch, also: None),
                (build, "kernel", self.kernel), (matrix, "run_one", self.run_one),
                (matrix, "equip", lambda machines: self.equipped.append(list(machines))),
                (matrix, "environment", lambda base, runs: {"kernel": "6.12.117"})):
            self.enterContext(mock.patch.object(owner, name, stand_in))
        self.enterContext(mock.patch.dict(TREES, {"patched": self.linux}))

    def git(self, *args: str) -> str:
        return subprocess.run(
            ["git", "-C", self.linux, "-c", "user.name=Dev", "-c", "user.email=dev@example.org",
             *args], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def hook(self, option: str, message: str) -> None:
        self.kconfig.write_text(self.kconfig.read_text().replace(
            f"config {option}\n\tbool\n", f"config {option}\n\tbool\n\tdefault y\n"))
        self.commit(message)

    def format(self) -> None:
        """Makes the series from the tree's commits."""
        shutil.rmtree(self.patches, ignore_errors=True)
        names = self.git("format-patch", "-o", str(self.patches), self.base).splitlines()
        (self.patches / "series").write_text("".join(f"{Path(name).name}\n" for name in names))

    def has(self, option: str) -> bool:
        return f"config {option}\n\tbool\n\tdefault y" in self.kconfig.read_text()

    def kernel(self, arch: str, config: str) -> Path:
        for option in self.broken:
            if not self.has(option):
                raise Error(f"{arch} kernel failed:\n  undefined reference to {option}")
        return Path(arch)

    def run_one(self, item: Any, tests: Any, image: Path, progress: Any,
                out: Path) -> tuple[Any, list[Result]]:
        self.assertEqual(item.name, MACHINE)
        self.assertEqual(self.equipped[-1:], [[MACHINE]])
        self.assertEqual([test.suite for test in tests], [SUITE])
        self.assertTrue(out.is_relative_to(self.out / "mutate"))
        self.boots.append(out.name)
        status = self.status if self.has("OPTION_3") else self.without
        first = [self.result("the first test", status)] if status else []
        return None, self.before + first + ([] if self.has("OPTION_3") else self.others)

    def result(self, test: str, status: str) -> Result:
        return Result(MACHINE, SUITE, test, SUITE, status, reason=f"why {status}")

    def run_mutate(self, hook: str = "") -> tuple[int, list[tuple[str, str]]]:
        """The exit status, and status and reason of each hook; the tree must be as it was."""
        with mock.patch.object(mutate, "HOOK", hook), contextlib.redirect_stdout(io.StringIO()):
            code = mutate.mutate()
        self.check_restored()
        results = json.loads((self.out / "mutate.json").read_text())["results"]
        return code, [(result["status"], result["reason"]) for result in results]

    def check_restored(self) -> None:
        self.assertEqual(self.git("status", "--porcelain", "--branch"), "## memtype")
        self.assertEqual(self.git("rev-parse", "HEAD"), self.head)

    def error(self, hook: str = "") -> str:
        """The message of an error, which must come before anything is built or booted."""
        with self.assertRaises(Error) as caught, \
                mock.patch.object(build, "kernel", side_effect=AssertionError):
            self.run_mutate(hook)
        return str(caught.exception)

    def test_red(self) -> None:
        self.broken = {"OPTION_9"}
        code, ((first, why), (second, _)) = self.run_mutate()
        self.assertEqual((code, first, second), (0, "red", "red"))
        self.assertEqual(why, "fail: why fail")
        self.assertEqual(self.boots, ["full", "0001-mm-First"])
        result = json.loads((self.out / "mutate.json").read_text())["results"][0]
        self.assertEqual((result["hook"], result["subject"], result["trailer"]),
                         ("0001-mm-First.patch", "mm: First", f"Red-without: {FIRST}"))

    def test_green(self) -> None:
        for self.without in (PASS, SKIP, ""):
            code, ((first, _), (second, _)) = self.run_mutate()
            self.assertEqual((code, first, second), (1, "green", "green"))

    def test_the_test_crashes(self) -> None:
        self.without = CRASH
        self.assertEqual(self.run_mutate("1"), (0, [("red", "crash: why crash")]))

    def test_no_verdict_without_the_patch(self) -> None:
        for self.without in (NOT_RUN, TIMEOUT):
            self.assertEqual(self.run_mutate("1"), (1, [
                ("not proven", f"{self.without}: why {self.without}")]))

    def test_the_program_dies_before_the_test(self) -> None:
        self.without = ""
        for status in (CRASH, TIMEOUT, NOT_RUN):
            self.others = [self.result(PROGRAM, status)]
            self.assertEqual(self.run_mutate("1"), (1, [("not proven", (
                f"not run: {SUITE} ended before the test, {status}: why {status}"))]))

    def test_the_program_crashes_in_the_test(self) -> None:
        self.without = ""
        self.before = [self.result("the zeroth test", PASS)]
        self.others = [self.result(PROGRAM, CRASH)]
        self.assertEqual(self.run_mutate("1"), (0, [("red", "crash: in the test: why crash")]))
        self.others = [self.result(PROGRAM, TIMEOUT)]
        self.assertEqual(self.run_mutate("1")[1][0][0], "not proven")
        # The test before it has not ended either.
        self.before, self.others = [self.result("the zeroth test", NOT_RUN)], [
            self.result(PROGRAM, CRASH)]
        self.assertEqual(self.run_mutate("1")[1][0][0], "not proven")

    def test_the_program_dies_after_the_test(self) -> None:
        self.others = [self.result(PROGRAM, CRASH)]
        for self.without, expected in ((PASS, "green"), (FAIL, "red")):
            _, ((status, _),) = self.run_mutate("1")
            self.assertEqual(status, expected)

    def test_structural(self) -> None:
        self.broken = {"OPTION_3"}
        code, ((status, why),) = self.run_mutate("1")
        self.assertEqual((code, status), (1, "structural"))
        self.assertIn("undefined reference to OPTION_3", why)

    def test_build_is_tried_for_every_architecture(self) -> None:
        with mock.patch.object(build, "kernel", side_effect=self.kernel) as kernel:
            self.run_mutate("2")
        self.assertEqual([call.args for call in kernel.mock_calls],
                         [(arch, "") for arch in ARCHES] * 3)

    def test_does_not_apply(self) -> None:
        self.kconfig.write_text(
            self.kconfig.read_text().replace("\tdefault y", "\tdefault y\n\thelp", 1))
        self.commit("mm: Build on the first")
        self.head = self.git("rev-parse", "HEAD")
        code, ((status, why),) = self.run_mutate("1")
        self.assertEqual((code, status), (1, "does not apply"))
        self.assertIn("mm/Kconfig", why)

    def test_not_proven(self) -> None:
        for self.status in (FAIL, SKIP, NOT_RUN, ""):
            self.boots = []
            code, ((status, _),) = self.run_mutate("1")
            self.assertEqual((code, status, self.boots), (1, "not proven", ["full"]))

    def test_full_tree_must_build(self) -> None:
        self.broken = {"OPTION_5"}
        with self.assertRaisesRegex(Error, "undefined reference to OPTION_5"):
            self.run_mutate()
        self.check_restored()

    def test_full_tree_must_build_afterwards(self) -> None:
        """A disk that is full from the first hook on."""
        with mock.patch.object(build, "kernel", side_effect=[
                *map(Path, ARCHES), *[Error("No space left on device")] * 2]), \
                self.assertRaisesRegex(Error, "No space left"):
            self.run_mutate("2")
        self.check_restored()
        self.assertFalse((self.out / "mutate.json").exists())

    def test_other_errors_of_git_are_errors(self) -> None:
        def full(*args: str, **kwargs: Any) -> str:
            if args[0] == "write-tree":
                raise Error("git write-tree:\nNo space left on device")
            return tree.git(*args, tree=self.linux, **kwargs)

        with mock.patch.object(mutate, "git", full), \
                self.assertRaisesRegex(Error, "No space left"):
            self.run_mutate("2")

    def mutation(self, what: str, old: str = "OPTION_3\n\tbool\n\tdefault y",
                 new: str = "OPTION_3\n\tbool") -> None:
        """Writes mutations/defect.patch, which by default takes OPTION_3 back."""
        text = self.kconfig.read_text()
        self.kconfig.write_text(text.replace(old, new, 1))
        mutate.MUTATIONS.mkdir(exist_ok=True)
        (mutate.MUTATIONS / "defect.patch").write_text(
            f"From: Dev <dev@example.org>\nSubject: [PATCH] A defect\n\nRed-with: {what}\n---\n"
            + self.git("diff") + "\n")
        self.kconfig.write_text(text)

    def test_mutation(self) -> None:
        self.mutation(FIRST)
        self.assertEqual(self.run_mutate("defect*"), (0, [("red", "fail: why fail")]))
        self.assertEqual(self.boots, ["full", "defect"])
        result = json.loads((self.out / "mutate.json").read_text())["results"][0]
        self.assertEqual((result["hook"], result["trailer"]),
                         ("defect.patch", f"Red-with: {FIRST}"))

    def test_mutation_that_two_tests_catch(self) -> None:
        self.mutation(f"{FIRST}\nRed-with: {FIRST}")
        self.assertEqual(self.run_mutate("defect*"), (0, 2 * [("red", "fail: why fail")]))
        self.assertEqual(self.boots, ["full", "defect", "defect"])

    def test_mutation_of_one_base(self) -> None:
        self.mutation(FIRST)
        own = mutate.MUTATIONS / settings.BASE
        own.mkdir()
        (mutate.MUTATIONS / "defect.patch").rename(own / "defect.patch")
        self.assertEqual(self.run_mutate("defect*"), (0, [("red", "fail: why fail")]))
        own.rename(mutate.MUTATIONS / "1.0")
        self.assertEqual(mutate.mutations(), [])

    def test_mutation_that_nothing_catches(self) -> None:
        self.mutation(FIRST)
        self.without = PASS
        self.assertEqual(self.run_mutate("defect*"), (1, [("green", "pass: why pass")]))

    def test_mutation_that_does_not_apply(self) -> None:
        self.mutation(FIRST)
        self.kconfig.write_text(
            self.kconfig.read_text().replace("\tdefault y", "\tdefault y\n\thelp", 1))
        self.commit("mm: Change what it changes")
        self.head = self.git("rev-parse", "HEAD")
        code, ((status, _),) = self.run_mutate("defect*")
        self.assertEqual((code, status), (1, "does not apply"))

    def test_mutation_that_a_unit_test_catches(self) -> None:
        kconfig, has = self.kconfig, self.has

        class Unit(unittest.TestCase):
            def test_option(self) -> None:
                self.assertTrue(has("OPTION_3"), "no OPTION_3")

            def test_nothing(self) -> None:
                self.assertTrue(kconfig.exists())

            def test_error(self) -> None:
                if not has("OPTION_3"):
                    raise OSError("no compiler")

            @unittest.skip("no reason")
            def test_skip(self) -> None:
                pass

        def load(_loader: unittest.TestLoader, name: str) -> unittest.TestSuite:
            return unittest.TestSuite([Unit(name.split(".")[-1])])

        with mock.patch.object(unittest.TestLoader, "loadTestsFromName", load):
            for test, code, status, why in (
                    ("test_option", 0, "red",
                     "fail: AssertionError: False is not true : no OPTION_3"),
                    ("test_nothing", 1, "green", "pass"),
                    ("test_error", 1, "not proven", "not run: OSError: no compiler"),
                    ("test_skip", 1, "not proven", "on the full tree it is skip: no reason")):
                with self.subTest(test):
                    self.mutation(f"unit test_some.Unit.{test}")
                    self.assertEqual(self.run_mutate("defect*"), (code, [(status, why)]))
        self.assertEqual(self.boots, [])

    def test_trailers_of_mutations(self) -> None:
        for what, said in (("", "must have one trailer “Red-with:”, and has 0"),
                           ("build", "none of “build”"),
                           ("unit test_mutate.Nothing", "there is no such test"),
                           (f"vax {SUITE} a test", "machines.toml has no vax")):
            with self.subTest(what):
                self.mutation(what)
                if not what:
                    path = mutate.MUTATIONS / "defect.patch"
                    path.write_text(path.read_text().replace("Red-with", "Red-without"))
                self.assertIn(said, self.error())

    def test_selection(self) -> None:
        names = ["0001-mm-first.patch", "0002-mm-second.patch", "0012-kvm-third.patch"]
        for hook, found in (("", names), ("2", names[1:2]), ("0001, 12", names[::2]),
                            ("*-mm-*", names[:2]), (names[2], names[2:]), ("1?", names[2:])):
            with self.subTest(hook), mock.patch.object(mutate, "HOOK", hook):
                self.assertEqual(mutate.chosen(names), found)
        self.assertIn("HOOK=7; there are:\n  0001-mm-First.patch", self.error("7"))
        self.assertIn("matches “7” of HOOK=1, 7;", self.error("1, 7"))

    def test_trailers(self) -> None:
        for trailer, said in (
                ("", "must have one trailer “Red-without:”, and has 0"),
                ("Red-without: build\nRed-without: build", "and has 2"),
                ("Red-without: compile", "none of “build”"),
                (f"Red-without: {MACHINE} {SUITE}", "none of “build”"),
                (f"Red-without: vax {SUITE} a test", "machines.toml has no vax"),
                (f"Red-without: {MACHINE} kvm/nothing a test", "tests.toml has no kvm/nothing"),
                (f"Red-without: x86-amd {SUITE} a test", f"no {SUITE} on x86-amd")):
            with self.subTest(trailer):
                self.git("commit", "-q", "--amend", "-m", f"mm: Second\n\nWhy.\n\n{trailer}")
                self.format()
                self.assertIn(said, self.error())
                self.assertIn("0002-mm-Second.patch", self.error("2"))

    def test_trailers_of_a_configuration(self) -> None:
        """CONFIG=debug proves those that name it, and no others."""
        self.git("commit", "-q", "--amend", "-m",
                 f"mm: Second\n\nWhy.\n\nRed-without: CONFIG=debug {FIRST}")
        self.head = self.git("rev-parse", "HEAD")
        self.format()
        self.assertEqual(self.run_mutate(), (0, [("red", "fail: why fail")]))
        self.assertIn("no trailer of HOOK=2 is for CONFIG=", self.error("2"))
        with mock.patch.object(mutate, "CONFIG", "debug"):
            self.assertEqual(self.run_mutate(), (1, [("green", "pass: why pass")]))
            self.assertIn("no trailer of HOOK=1 is for CONFIG=debug", self.error("1"))

    def test_refuses_uncommitted_edits(self) -> None:
        self.kconfig.write_text("# mine\n")
        self.assertIn("uncommitted changes", self.error())
        self.assertEqual(self.kconfig.read_text(), "# mine\n")

    def test_restored_after_an_interrupt(self) -> None:
        """By the signals of settings.main, the second of them while the tree is restored."""
        def interrupted(arch: str, config: str) -> Path:
            if not self.has("OPTION_9"):
                os.kill(os.getpid(), signal.SIGINT)
            return Path(arch)

        def interrupted_git(*args: str, **kwargs: Any) -> str:
            if args[-1] == "memtype":
                os.kill(os.getpid(), signal.SIGINT)
            return tree.git(*args, tree=self.linux, **kwargs)

        with mock.patch.object(build, "kernel", interrupted), \
                mock.patch.object(mutate, "git", interrupted_git), \
                self.assertRaises(KeyboardInterrupt):
            self.run_mutate("2")
        self.check_restored()
        self.assertEqual(signal.pthread_sigmask(signal.SIG_BLOCK, ()), set())

    def test_selftests_are_built_anew_for_their_makefile(self) -> None:
        makefile = self.linux / "tools/testing/selftests/kvm/Makefile"
        makefile.parent.mkdir(parents=True)
        makefile.write_text("TEST_GEN_PROGS += first\n")
        self.commit("selftests: First\n\nRed-without: build")
        self.head = self.git("rev-parse", "HEAD")
        self.format()
        program = self.selftests / "x86_64/kvm/first"

        def selftests(arch: str, also: object) -> None:
            """As make does: what is there already needs no rule."""
            if not program.exists():
                if not makefile.exists():
                    raise Error("no rule to make target first")
                program.parent.mkdir(parents=True)
                program.touch()

        with mock.patch.object(build, "selftests", selftests):
            code, ((status, _),) = self.run_mutate("3")
        self.assertEqual((code, status), (0, "red"))
        self.assertTrue(program.exists())
        # make bisect boots what is older with the programs of now.
        with mutate.checked_out(f"{self.head}~", programs=False):
            self.assertFalse(makefile.exists())
            self.assertTrue(program.exists())


if __name__ == "__main__":
    unittest.main()
