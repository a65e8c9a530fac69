# SPDX-License-Identifier: GPL-2.0-only
"""The checks that make check runs must be able to fail; their input here is made up."""

from __future__ import annotations

import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import build
import check
import mutate
import settings
import sphinx
import tables
import tree
from settings import REPO

# Both have a function `shared` and a variable that gcc numbers: neither tells who is whose.
SHARED = "static __attribute__((noinline)) int shared(void) { static int numbered; " \
         "return numbered++; }\n"
OVERLAY = SHARED + "int ours(void) { return shared(); }\n"
HOOKED = SHARED + "int ours(void); int hook(void) { return shared() + HOOK; }\n"


class OptionOff(unittest.TestCase):
    """An “overlay” mm/ours.c and a “hooked” mm/hooked.c, compiled by what a hook leaves in it."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        self.on, self.off = self.top / "patched/x86_64", self.top / "check/x86_64-off"

    def compile(self, out: Path, name: str, source: str) -> None:
        (out / "mm").mkdir(parents=True, exist_ok=True)
        (out / f"mm/.{name}.o.cmd").write_text(f"savedcmd_mm/../mm/{name}.o := gcc\n")
        subprocess.run(["gcc", "-x", "c", "-c", "-o", out / f"mm/{name}.o", "-"],
                       input=source, text=True, check=True)

    def run_check(self, on: str, off: str) -> list[str]:
        """What the check finds, with this for a hook when the option is on and when it is off."""
        self.compile(self.on, "ours", OVERLAY)
        self.compile(self.on, "hooked", HOOKED.replace("HOOK", on))
        subprocess.run(["ld", "-r", "-o", self.on / "vmlinux.o", *self.on.glob("mm/*.o")],
                       check=True)

        def make(*_words: Any) -> None:
            self.compile(self.off, "hooked", HOOKED.replace("HOOK", off))

        sources = {tree.OVERLAY: ["mm/ours.c", "mm/not_built.c"], tree.HOOKED: ["mm/hooked.c"]}
        with mock.patch.object(check, "BUILD", self.top), \
                mock.patch.object(tree, "kernel_sources", lambda arch, kind: sources[kind]), \
                mock.patch.object(build, "objects", lambda arch: self.on), \
                mock.patch.object(build, "configure"), mock.patch.object(build, "make", make):
            return check.option_off("x86_64")

    def test_no_trace(self) -> None:
        self.assertEqual(self.run_check("ours()", "0"), [])

    def test_call(self) -> None:
        problem, = self.run_check("ours()", "ours()")
        self.assertIn("hooked.o has ours", problem)

    def test_inlined(self) -> None:
        """A header of ours defines it, so that no object of the overlay has it."""
        problem, = self.run_check("ours()", "({ int dma_cache_add(void); dma_cache_add(); })")
        self.assertIn("hooked.o has dma_cache_add", problem)

    def test_nothing_to_see(self) -> None:
        problem, = self.run_check("0", "0")
        self.assertIn("proves nothing", problem)


class Modules(unittest.TestCase):
    def test_modules(self) -> None:
        """Modules that use what is maintained, and one that does not; a modpost that shows
        what it is given."""
        uses = "int dma_cache_add(void);\nint f(void) { return dma_cache_add(); }\n"
        with tempfile.TemporaryDirectory() as scratch, \
                mock.patch.object(check, "BUILD", Path(scratch)), \
                mock.patch.object(build, "BUILD", Path(scratch)), \
                mock.patch.object(build, "configure"), mock.patch.object(build, "make"):
            kernel = build.objects("x86_64")
            kernel.mkdir(parents=True)
            exported = "0x00000000\t{}\tvmlinux\tEXPORT_SYMBOL_GPL\t\n"
            (kernel / "vmlinux.symvers").write_text(
                "".join(map(exported.format, ("dma_cache_add", "dma_cache_mine"))))
            out = Path(scratch) / "check/x86_64-modules"
            for name, source in zip(check.MODULES, (uses, "int dma_cache_mine;\n", uses),
                                    strict=True):
                path = out / f"{name}.o"
                path.parent.mkdir(parents=True)
                subprocess.run(["gcc", "-x", "c", "-c", "-o", path, "-"], input=source, text=True,
                               check=True)
            modpost = out / "scripts/mod/modpost"
            modpost.parent.mkdir(parents=True)
            modpost.write_text("#!/bin/sh\ncat $3\nexit 1\n")
            modpost.chmod(0o755)
            problems = check.modules()
        self.assertIn("vfio_iommu_type1.o uses nothing", problems[0])
        # What a module exports itself is not known from the kernel that it is a part of.
        self.assertEqual([line + "\n" for line in problems[1:]], [exported.format("dma_cache_add")])


class Checkpatch(unittest.TestCase):
    def test_options_and_cache(self) -> None:
        """A patch that adds a file, which .checkpatch.conf allows, and is a bad one."""
        patch = ("From: Dev <dev@example.org>\nSubject: [PATCH] mm: Add a file\n\nFor the test.\n\n"
                 f"Red-without: x86-amd kunit {'a_long_name.' * 6}\n"
                 "Signed-off-by: Dev <dev@example.org>\n---\ndiff --git a/mm/a.c b/mm/a.c\n"
                 "new file mode 100644\n--- /dev/null\n+++ b/mm/a.c\n@@ -0,0 +1,2 @@\n"
                 "+// SPDX-License-Identifier: GPL-2.0-only\n+int myTest;\n")

        def git(*args: str) -> str:
            (Path(args[args.index("-o") + 1]) / "0001-a.patch").write_text(patch)
            return ""

        before = set(REPO.glob(".checkpatch*"))
        with mock.patch.object(tree, "git", git):
            problem, = check.checkpatch()
        self.assertIn("mm/a.c:2: CHECK:CAMELCASE", problem)
        self.assertEqual(set(REPO.glob(".checkpatch*")), before)


class Trailers(unittest.TestCase):
    def test_each_patch(self) -> None:
        with tempfile.TemporaryDirectory() as scratch, mock.patch.object(check, "REPO",
                                                                         Path(scratch)):
            patches = Path(scratch) / "patches/6.12"
            patches.mkdir(parents=True)
            (patches / "series").write_text("1.patch\n2.patch\n3.patch\n4.patch\n")
            hunk = ("diff --git a/mm/no.c b/mm/no.c\n--- a/mm/no.c\n+++ b/mm/no.c\n"
                    "@@ -1 +1 @@\n-a\n+b\n")
            for name, trailer, diff in (
                    ("1", "Red-without: build\n", ""), ("2", "", hunk),
                    ("3", "Red-without: vax kvm/memtype_test a test\n", hunk),
                    ("4", "Red-without: build\n", hunk)):
                (patches / f"{name}.patch").write_text(f"Subject: a\n\n{trailer}---\n{diff}")
            mutations = Path(scratch) / "mutations"
            mutations.mkdir()
            (mutations / "defect.patch").write_text(
                "Subject: a\n\nRed-with: x86-amd kunit a test\n---\n"
                "--- a/mm/none.c\n+++ b/mm/none.c\n@@ -1 +1 @@\n-old\n+new\n")
            with mock.patch.object(mutate, "MUTATIONS", mutations):
                second, third, fourth, defect = check.trailers()
        self.assertIn("2.patch must have one trailer", second)
        self.assertIn("machines.toml has no vax", third)
        self.assertIn("4.patch does not apply", fourth)
        self.assertIn("defect.patch does not apply", defect)


class Files(unittest.TestCase):
    def test_stray_files(self) -> None:
        """Each file has its place, and what has none is named."""
        stray = ["hang.enf.out", "tools/testing/memtype/notes.txt", "mm/memtype.c.orig",
                 "build/linux/Makefile.old"]
        with mock.patch.object(settings, "output",
                               return_value="\n".join(["README.md", "mm/memtype.c",
                                                       ".github/workflows/github.yml", *stray])):
            self.assertEqual([line.split(": ")[0] for line in check.stray_files()], stray)
        self.assertEqual(check.stray_files(), [])
        self.assertTrue(".github/workflows/github.yml".startswith(tree.ASIDE))

    def test_upstream_programs(self) -> None:
        """Each of upstream's programs runs or is left out, and none does both."""
        machine = mock.Mock(arch="arm64", compat=True)
        cases: list[tuple[list[str], list[str], list[str]]] = [
                (["kvm/a"], ["kvm/b"], []), (["kvm/a"], ["kvm/[b-z]*"], []),
                (["kvm/a"], [], ["m: upstream.toml says nothing of kvm/b"]),
                (["kvm/a", "kvm/b"], ["kvm/b"],
                 ["m: runs kvm/b, which upstream.toml says that it leaves out"]),
                (["kvm/a"], ["kvm/b", "kvm/c"], ["m: upstream has no kvm/c"])]
        for runs, out, said in cases:
            tests = [tables.Test(name, ["m"], program=name) for name in runs]
            left_out = [tables.LeftOut(name, ["m"], "why", "fail", "fail") for name in out]
            with mock.patch.object(tables, "all_machines", return_value={"m": machine}), \
                    mock.patch.object(tables, "all_tests", return_value=tests), \
                    mock.patch.object(tables, "left_out", return_value=left_out), \
                    mock.patch.object(build, "upstream_programs", return_value=["kvm/a", "kvm/b"]):
                self.assertEqual(check.upstream_programs(), said)


class Sample(unittest.TestCase):
    """What README.md shows of a report is what the report has."""
    REPORT = ("x86-amd    4 passed,  374 s ───┐\nx86-intel  5 passed, 9 s ─────│───┐\n"
              "kvm/a                         4   5\n")

    def stale(self, *lines: str) -> list[str]:
        return check.stale_sample("\n".join(["text", check.SAMPLE, *lines, check.SAMPLE, "more"]),
                                  self.REPORT)

    def test_sample(self) -> None:
        self.assertEqual(self.stale("", "    x86-amd    4 passed, 12 s ──┐", "    ...",
                                    "    kvm/a   4   5"), [])
        self.assertEqual(self.stale("    x86-fast   3 passed, 374 s", "    kvm/a  4  6"),
                         ["x86-fast   3 passed, 374 s", "kvm/a  4  6"])


class Parts(unittest.TestCase):
    def test_failures_at_the_end(self) -> None:
        """What failed in a part stands before the sum, however much other parts print later."""
        def units() -> check.Sum:
            return check.Sum(3, 1, 1, ["unit test a.b: it is red"])

        def checks() -> check.Sum:
            raise settings.Error("no compiler")

        with mock.patch.object(check, "say") as say:
            self.assertEqual(check.run_parts(units, checks, lambda: check.Sum(5, 0, 2)), 1)
        first, second, _took, last = [call.args[0] for call in say.call_args_list][-4:]
        self.assertEqual((first, second), ("unit test a.b: it is red", "error: no compiler"))
        self.assertEqual(last, "8 passed, 2 failed, 3 skipped")
        with mock.patch.object(check, "say"):
            self.assertEqual(check.run_parts(units), 1)
            self.assertEqual(check.run_parts(lambda: check.Sum(1, 0, 0)), 0)
            self.assertEqual(check.run_parts(lambda: check.Sum(0, 0, 4)), 1)


class OurLines(unittest.TestCase):
    def test_lines(self) -> None:
        diff = ("--- a/mm/a.c\n+++ b/mm/a.c\n@@ -3,0 +4,2 @@ context\n+one\n+two\n@@ -9 +11 @@\n"
                "-old\n+new\n@@ -20,2 +21,0 @@\n-gone\n-gone\n"
                "--- /dev/null\n+++ b/mm/b.c\n@@ -0,0 +1 @@\n+all\n")
        with mock.patch.object(tree, "git", lambda *args: diff):
            self.assertEqual(tree.our_lines(), {("mm/a.c", 4), ("mm/a.c", 5), ("mm/a.c", 11),
                                                ("mm/b.c", 1)})


# Sphinx 5.3 on 6.12's Documentation/virt/kvm, with three mistakes of ours in it.
SPHINX = """\
WARNING: dot(1) not found, for better output quality install graphviz from https://www.graphviz.org
LINUX/include/uapi/linux/kvm_memtype.h:1: warning: 'kvm_nothing' not found
LINUX/Documentation/virt/kvm/api.rst:8155: ERROR: Malformed table.
LINUX/Documentation/virt/kvm/memtype.rst:224: ERROR: Unknown directive type "nonsense".
LINUX/Documentation/virt/kvm/memtype.rst: WARNING: document isn't included in any toctree
"""


class Sphinx(unittest.TestCase):
    OVERLAY = ["Documentation/virt/kvm/memtype.rst", "include/uapi/linux/kvm_memtype.h"]

    def warnings(self, lines: set[tuple[str, int]]) -> list[str]:
        with tempfile.TemporaryDirectory() as linux, \
                mock.patch.object(tree, "overlay_files", lambda: self.OVERLAY), \
                mock.patch.object(tree, "our_lines", lambda: lines):
            found = sphinx.our_warnings(SPHINX.replace("LINUX", linux), Path(linux))
            return [line.removeprefix(f"{linux}/").split(": ")[0] for line in found]

    def test_whose(self) -> None:
        """All of a file of ours, of a hooked one only our lines."""
        ours = ["include/uapi/linux/kvm_memtype.h:1", "Documentation/virt/kvm/memtype.rst:224",
                "Documentation/virt/kvm/memtype.rst"]
        api = "Documentation/virt/kvm/api.rst"
        self.assertEqual(self.warnings({(api, 8154)}), ours)
        self.assertEqual(self.warnings({(api, 8155)}), [ours[0], f"{api}:8155", *ours[1:]])

    def test_not_built(self) -> None:
        def make(_what: str, _arch: str, log: Path, *_words: Any) -> None:
            log.parent.mkdir(parents=True)
            log.write_text("")

        with tempfile.TemporaryDirectory() as scratch, \
                mock.patch.object(sphinx, "BUILD", Path(scratch)), \
                mock.patch.object(tree, "overlay_files", lambda: self.OVERLAY), \
                mock.patch.object(tree, "our_lines", set), mock.patch.object(build, "make", make):
            self.assertEqual(sphinx.warnings(), [f"{self.OVERLAY[0]} was not built"])


if __name__ == "__main__":
    unittest.main()
