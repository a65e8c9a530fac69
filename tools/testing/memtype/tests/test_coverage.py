# SPDX-License-Identifier: GPL-2.0-only
"""CONFIG=coverage: from what gcov counts in a machine to the lines that no machine reached.

A program stands for each machine: gcc's counts are the same there, and init.c says them.
"""

from __future__ import annotations

import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import build
import coverage
import settings
import tree
from console import Log
from settings import ARCHES, TREES

HEADER = """\
static inline int twice(int n)
{
    if (n > 100)
        return 0;
    return 2 * n;
}
"""
SOURCE = """\
#include <stdlib.h>
#include "twice.h"
int main(int argc, char **argv)
{
    switch (argc) {
    case 2:
        return twice(atoi(argv[1]));
    case 3:
        return 3;

    case 4:
        abort();
    }
    return 0;
}
"""
# The functions of init.c alone, to the standard output.
SAY = """\
#define main init_main
#include "{init}"
#undef main
int main(int argc, char **argv)
{{
    kmsg = argc - 1;
    say_coverage(argv[1]);
    say("memtype> done");
    return 0;
}}
"""
NATIVE = next(name for name, item in ARCHES.items() if not item.cross)
OURS = {(name, number) for name in ("mm/a.c", "mm/twice.h", "mm/a_kunit.c")
        for number in range(1, 20)} - {("mm/a.c", 14)}


class Gcov(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name).resolve()
        self.out, self.objects = self.top / "out", self.top / "objects/mm"
        linux = self.top / "linux"
        (linux / "mm").mkdir(parents=True)
        self.objects.mkdir(parents=True)
        (linux / "mm/twice.h").write_text(HEADER)
        (self.objects.parent / "coverage.h").write_text(build.COUNT)
        for name in "a", "a_kunit":
            (linux / f"mm/{name}.c").write_text(SOURCE)
            # As kbuild does it, from the top of the objects.
            subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-fprofile-arcs",
                            "-ftest-coverage", "-include", "coverage.h", "-o", f"mm/{name}.o",
                            "-c", f"../linux/mm/{name}.c"], cwd=self.top / "objects", check=True)
            subprocess.run(["gcc", "--coverage", "-o", self.objects / name,
                            self.objects / f"{name}.o"], check=True)
        (self.top / "say.c").write_text(SAY.format(
            init=TREES["patched"] / "tools/testing/memtype/init.c"))
        subprocess.run(["gcc", *build.UAPI, "-o", self.top / "say", self.top / "say.c"], check=True)
        gcov = str(self.top / "gcov")
        self.enterContext(mock.patch.object(coverage, "GCOV", gcov))
        self.enterContext(mock.patch.object(build, "objects", lambda arch: self.top / "objects"))
        self.enterContext(mock.patch.object(tree, "our_lines", lambda: OURS))
        self.enterContext(mock.patch.dict(TREES, patched=linux))

    def boot(self, machine: str, *arguments: str, number: str = "", crash: bool = False) -> None:
        """Leaves the console of a machine that ran the programs with these arguments."""
        for program in self.objects / "a", self.objects / "a_kunit":
            subprocess.run([program, *arguments], check=False)
        for data in self.objects.rglob("*.gcda"):
            shown = Path(f"{self.top}/gcov{data}")
            shown.parent.mkdir(parents=True, exist_ok=True)
            data.rename(shown)
        (self.top / "gcov/reset").touch()
        said = subprocess.run([self.top / "say", self.top / "gcov"], check=True, text=True,
                              stdout=subprocess.PIPE).stdout.splitlines()
        console = self.out / machine / f"console{number}.log"
        console.parent.mkdir(parents=True, exist_ok=True)
        console.write_text("".join(f"[    1.000000] {line}\n"
                                   for line in said[:-1 if crash else None]))

    def collect(self, *machines: str) -> coverage.Coverage:
        return coverage.collect({name: NATIVE for name in machines}, self.out)

    def test_lines(self) -> None:
        """What one of the machines reached is reached, and a header is a file of its own."""
        self.boot("one", "7")
        self.boot("two", "7", "7")
        found = self.collect("one", "two")
        self.assertEqual((found.boots, found.lost), (["one", "two"], []))
        self.assertEqual({name: [number for number, reached in lines.items() if not reached]
                          for name, lines in found.files.items()},
                         {"mm/a.c": [11, 12], "mm/twice.h": [4]})
        # A line that is not ours has no part in it, and neither has a test of ours.
        self.assertNotIn(14, found.files["mm/a.c"])
        self.assertTrue(found.files["mm/a.c"][9])
        self.assertFalse(self.collect("one").files["mm/a.c"][9])

    def test_boots(self) -> None:
        """Each boot of a machine counts, but for one that ended before it said all."""
        self.boot("one", "7", crash=True)
        self.boot("one", "7", "7", number=".2")
        (self.out / "two").mkdir()
        (self.out / "two/console.log").write_text("[    1.000000] memtype> done\n")
        found = self.collect("one", "two", "cannot-be-had")
        self.assertEqual((found.boots, found.lost), (["one.2"], ["one", "two"]))
        self.assertTrue(found.files["mm/a.c"][9])
        self.assertFalse(found.files["mm/a.c"][7])

    def test_report(self) -> None:
        self.boot("one", "7")
        with mock.patch.object(coverage, "say") as say:
            coverage.report({"one": NATIVE}, self.out)
        said = say.call_args.args[0]
        self.assertRegex(said, r"(?m)^mm/a\.c +\d+ +\d+ +\d+\n    8-12$")
        text = (self.out / "coverage.txt").read_text()
        self.assertIn("\nmm/a.c:8\n    8     case 3:\n    9         return 3;\n   10 \n", text)


class Report(unittest.TestCase):
    def test_missed(self) -> None:
        """A piece ends at a line that was reached, and at one that is not ours."""
        cases: tuple[tuple[coverage.Lines, list[tuple[int, int]]], ...] = (
            ({}, []), ({1: True}, []), ({5: False}, [(5, 5)]),
            ({3: False, 1: False, 9: False, 4: True}, [(1, 3), (9, 9)]),
            ({1: True, 2: False, 7: False}, [(2, 7)]),
            ({12: False, 13: False, 15: False}, [(12, 13), (15, 15)]))
        for lines, pieces in cases:
            with self.subTest(lines):
                self.assertEqual(coverage.missed(
                    coverage.Coverage({"mm/a.c": lines}, OURS), "mm/a.c"), pieces)

    def test_table(self) -> None:
        many = {number: bool(number % 2) for number in range(200)}
        found = coverage.Coverage({"mm/b.c": many, "mm/a.h": {1: True}}, set(), ["one"], ["two"])
        lines = coverage.table(found)
        self.assertEqual(lines[:2], ["Our kernel code on one",
                                     "Not counted, because the machine ended too early: two"])
        self.assertRegex("\n".join(lines),
                         r"\nmm/a\.h +1 +1 +100\nmm/b\.c +200 +100 +50\n    0, 2,")
        self.assertRegex(lines[-1], r"^all +201 +101 +50$")
        self.assertLessEqual(max(map(len, lines)), coverage.WIDTH)
        self.assertRegex(coverage.table(coverage.Coverage())[-1], "^all +0 +0 +0$")

    def test_only_our_kernel(self) -> None:
        with mock.patch.object(settings, "CONFIG", "coverage"), \
                mock.patch.object(settings, "KERNEL", "base"), \
                self.assertRaisesRegex(settings.Error, "KERNEL=base lacks"):
            settings.check_choices()


class Console(unittest.TestCase):
    LINES = ("[    1.000000] memtype> boot", "[    1.000000] memtype> counts /a.gcda",
             "[    1.000000] memtype= 67636461 0", "[    1.000000] memtype= 00B5",
             "[    1.000000] memtype> counts /b.gcda", "[    1.000000] memtype= 1")

    def test_counts(self) -> None:
        log = Log(self.LINES)
        self.assertEqual(log.counts, {"/a.gcda": ["67636461", "0", "00B5"], "/b.gcda": ["1"]})
        self.assertEqual(log.between.lines, [])     # of the kernel's log, they are no part

    def test_panic_meanwhile(self) -> None:
        """Nothing raises."""
        panic = "[    1.000000] Kernel panic - not syncing: here"
        for number in range(len(self.LINES)):
            log = Log([*self.LINES[:number], panic, *self.LINES[number:]])
            self.assertFalse(log.done)


class Profile(unittest.TestCase):
    """Which objects gcov counts in, as kbuild's own Makefile.lib decides it."""

    RULE = """\
GCOV_PROFILE := n
all: ; @$(MAKE) -s arch/x/kvm/../../../virt/kvm/ours.o mm/ours.o mm/other/ours.o mm/ours_kunit.o
%.o: ; @echo $@ '$(lastword $(CC))' $(if $(patsubst n%,,$(GCOV_PROFILE_x.o)$(GCOV_PROFILE)),counts)
"""

    def test_objects(self) -> None:
        names = ["virt/kvm/ours.c", "mm/ours.c", "mm/ours_kunit.c"]
        with tempfile.TemporaryDirectory() as scratch, \
                mock.patch.object(build, "objects", lambda arch: Path(scratch)), \
                mock.patch.object(tree, "kernel_sources", lambda arch: names):
            top = Path(scratch)
            (top / "Makefile").write_text(self.RULE)
            build.make("objects", NATIVE, top / "log", "-C", top, *build.profile(NATIVE))
            said = [line for line in (top / "log").read_text().splitlines() if ".o " in line]
            self.assertCountEqual(said, [
                f"arch/x/kvm/../../../virt/kvm/ours.o {top}/coverage.h counts",
                f"mm/ours.o {top}/coverage.h counts", "mm/other/ours.o gcc", "mm/ours_kunit.o gcc"])

    def test_instruments(self) -> None:
        for name in ("mm/dma_cache_kunit.c", "virt/kvm/memtype_probe.h", "mm/memtype_test.c",
                     "drivers/vfio/vfio_mock.c", "drivers/iommu/iommufd/selftest_shadow.c",
                     "drivers/iommu/iommufd/selftest.c", "drivers/iommu/iommufd/iommufd_test.h"):
            self.assertTrue(build.is_instrument(name), name)
        for name in ("mm/memtype.c", "virt/kvm/memtype.c", "drivers/iommu/iommufd/noncoherent.c"):
            self.assertFalse(build.is_instrument(name), name)
