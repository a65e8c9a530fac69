# SPDX-License-Identifier: GPL-2.0-only
"""Base, overlay and patches, on a project and a kernel small enough to see through."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from settings import HERE
from tree import MUTATED

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\nNAME = x\n"
KCONFIG = "".join(f"config OPTION_{number}\n\tbool\n\n" for number in range(12))
# Laying the tree has no command of its own: whatever needs the tree does it first.
LAY = "import settings, tree; settings.main({'lay': lambda: tree.lay() and None}, '')"


class Tree(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        top = Path(scratch.name)
        self.kernel, self.project, self.build = top / "kernel", top / "my project", top / "build"
        self.linux = self.build / "linux"
        (self.kernel / "mm").mkdir(parents=True)
        (self.kernel / "Makefile").write_text(MAKEFILE)
        (self.kernel / "mm/Kconfig").write_text(KCONFIG)
        self.git(self.kernel, "init", "-q", "-b", "main")
        self.commit(self.kernel, "kernel")

        tools = self.project / "tools/testing/memtype"
        tools.mkdir(parents=True)
        for path in [*HERE.glob("*.py"), HERE / "architectures.toml", HERE / "bases.toml"]:
            shutil.copy(path, tools)
        patches = self.project / "patches/6.12"
        patches.mkdir(parents=True)
        (self.project / "README.md").write_text("not for the kernel tree\n")
        (self.project / "mm").mkdir()
        (self.project / "mm/new.c").write_text("int new;\n")
        (patches / "tested").write_text("6.12.117\n")
        (patches / "series").write_text("")
        self.git(self.project, "init", "-q", "-b", "main")
        self.commit(self.project, "project")
        # One hook and one test instrument, made the way a developer makes them.
        self.run_tree("lay")
        self.hook("OPTION_3", "mm: Hook in the first")
        self.hook("OPTION_9", "mm: Hook in an instrument")
        self.run_tree("refresh")
        (patches / "series").write_text("# mm\n0001-mm-hook-in-the-first.patch\n\n"
                                        "# test instruments\n0002-mm-hook-in-an-instrument.patch\n")
        self.commit(self.project, "patches")

    def git(self, where: Path, *args: str) -> str:
        return subprocess.run(
            ["git", "-C", where, "-c", "user.name=Dev", "-c", "user.email=dev@example.org", *args],
            check=True, text=True, stdout=subprocess.PIPE).stdout.strip()

    def commit(self, where: Path, message: str) -> None:
        self.git(where, "add", "-A")
        self.git(where, "commit", "-q", "-m", message)

    def run_tree(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs tree.py as make would; the output has what it said."""
        tools = self.project / "tools/testing/memtype"
        words: list[str | Path] = [tools / "tree.py", *command]
        if command[0] == "lay":
            words = ["-c", LAY, "lay"]
        return subprocess.run(
            [sys.executable, "-B", *words], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
            cwd=self.project,
            env={**os.environ, "PYTHONPATH": str(tools), "BUILD": str(self.build),
                 "OUT": str(self.build / "out"), "KSRC": str(self.kernel), "BASE": "",
                 "KERNEL": "patched", "CONFIG": "", **env})

    def good(self, *command: str, **env: str) -> str:
        done = self.run_tree(*command, **env)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def bad(self, *command: str, **env: str) -> str:
        done = self.run_tree(*command, **env)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertNotIn("Traceback", done.stdout)
        return done.stdout

    def hook(self, option: str, message: str) -> None:
        path = self.linux / "mm/Kconfig"
        path.write_text(path.read_text().replace(
            f"config {option}\n\tbool\n", f"config {option}\n\tbool\n\tdefault y\n"))
        self.commit(self.linux, message)

    def status(self) -> str:
        return self.git(self.project, "status", "--porcelain")

    def test_lay(self) -> None:
        self.good("lay")
        self.assertEqual((self.linux / "mm/new.c").read_text(), "int new;\n")
        self.assertEqual((self.linux / "mm/Kconfig").read_text().count("default y"), 2)
        self.assertFalse((self.linux / "README.md").exists())
        self.assertFalse((self.linux / "patches").exists())
        self.assertEqual(self.git(self.linux, "rev-list", "--count", "HEAD"), "4")

    def test_base_has_instruments_only(self) -> None:
        self.good("lay", KERNEL="base")
        text = (self.build / "linux-base/mm/Kconfig").read_text()
        self.assertIn("config OPTION_9\n\tbool\n\tdefault y", text)
        self.assertEqual(text.count("default y"), 1)

    def test_base_was_deleted(self) -> None:
        self.good("lay", KERNEL="base")
        shutil.rmtree(self.build / "linux-base")
        self.good("lay", KERNEL="base")
        self.assertTrue((self.build / "linux-base/mm/Kconfig").exists())

    def test_base_was_interrupted(self) -> None:
        self.good("lay", KERNEL="base")
        shutil.rmtree(self.build / "linux-base")
        (self.build / "linux/.git/worktrees/linux-base/locked").write_text("initializing")
        self.good("lay", KERNEL="base")
        self.assertTrue((self.build / "linux-base/mm/Kconfig").exists())

    def test_ksrc_is_only_read(self) -> None:
        (self.kernel / "mm/Kconfig").write_text("# edited, not committed\n\n" + KCONFIG)
        (self.kernel / "mm/new.o").write_text("a build product")
        before = {path: path.stat().st_mtime_ns for path in self.kernel.rglob("*")}
        self.good("lay")
        self.assertEqual({path: path.stat().st_mtime_ns for path in self.kernel.rglob("*")}, before)
        self.assertIn("# edited", (self.linux / "mm/Kconfig").read_text())
        self.assertFalse((self.linux / "mm/new.o").exists())

    def test_file_that_left_ksrc(self) -> None:
        (self.kernel / "mm/old.c").write_text("int old;\n")
        self.commit(self.kernel, "old")
        self.good("lay")
        self.assertTrue((self.linux / "mm/old.c").exists())
        self.git(self.kernel, "rm", "-q", "mm/old.c")
        self.good("lay")
        self.assertFalse((self.linux / "mm/old.c").exists())

    def test_git_hook_environment(self) -> None:
        self.good("lay", GIT_DIR=str(self.project / ".git"), GIT_INDEX_FILE="/nonexistent")

    def test_tarball_tree(self) -> None:
        shutil.rmtree(self.kernel / ".git")
        self.good("lay")
        (self.kernel / ".config").write_text("")
        self.assertIn("make mrproper", self.bad("lay"))

    def test_patch_that_does_not_apply(self) -> None:
        head = self.git(self.linux, "rev-parse", "HEAD")
        kconfig = self.kernel / "mm/Kconfig"
        kconfig.write_text(kconfig.read_text().replace("OPTION_3\n", "OPTION_THREE\n"))
        said = self.bad("lay")
        self.assertIn("0001-mm-hook-in-the-first.patch does not apply", said)
        self.assertRegex(said, r"mm/Kconfig: the hunk at line \d+")
        self.assertEqual(self.git(self.linux, "rev-parse", "HEAD"), head)

    def test_context_that_moved(self) -> None:
        kconfig = self.kernel / "mm/Kconfig"
        kconfig.write_text("# a line more\n\n" + kconfig.read_text())
        self.good("lay")

    def test_unknown_version(self) -> None:
        (self.kernel / "Makefile").write_text(MAKEFILE.replace("= 12", "= 13"))
        self.assertIn("no patches for kernel 6.13.117; supported: 6.12, 7.3", self.bad("lay"))

    def test_another_base(self) -> None:
        """It lies beside the default one, with hooks of its own; KSRC= says which it is."""
        self.good("lay")
        (self.kernel / "Makefile").write_text(MAKEFILE.replace("= 6\n", "= 7\n").replace("12", "3"))
        patches = self.project / "patches/7.3"
        patches.mkdir()
        (patches / "tested").write_text("7.3.117\n")
        (patches / "series").write_text("")
        self.good("lay")
        self.assertNotIn("default y", (self.build / "7.3/linux/mm/Kconfig").read_text())
        self.assertTrue((self.build / "7.3/linux/mm/new.c").exists())
        self.assertIn("default y", (self.linux / "mm/Kconfig").read_text())
        self.assertIn(f"BASE=6.12: but KSRC={self.kernel} is 7.3", self.bad("lay", BASE="6.12"))
        self.assertIn("BASE=7.4: must be one of 6.12, 7.3", self.bad("lay", BASE="7.4", KSRC=""))

    def test_no_kernel_tree(self) -> None:
        self.assertIn("is not a kernel tree", self.bad("lay", KSRC=str(self.project)))

    def test_other_release_is_noted(self) -> None:
        (self.kernel / "Makefile").write_text(MAKEFILE.replace("117", "118"))
        self.assertIn("last tested with 6.12.117", self.good("lay"))

    def test_overlay_must_not_hide_the_base(self) -> None:
        (self.project / "mm/Kconfig").write_text("")
        self.assertIn("overlay files that the base has too", self.bad("lay"))

    def test_killed_mutate(self) -> None:
        self.good("lay")
        for command in "lay", "refresh":
            self.git(self.linux, "checkout", "-q", "--detach")
            self.hook("OPTION_6", f"{MUTATED} without x.patch")
            selftests = self.build / "selftests"
            selftests.mkdir()
            (self.linux / "mm/new.c").write_text("int mine;\n")
            self.assertRegex(self.bad(command), "make mutate was killed .* uncommitted changes")
            self.git(self.linux, "checkout", "-q", "mm/new.c")
            said = self.good(command)
            self.assertIn("note: make mutate was killed", said)
            self.assertNotIn("not in the repository yet", said)
            self.assertEqual(self.git(self.linux, "branch", "--show-current"), "memtype")
            self.assertFalse(selftests.exists())
            self.assertEqual(self.status(), "")

    def test_refresh_without_changes(self) -> None:
        self.good("lay")
        self.good("refresh")
        self.assertEqual(self.status(), "")

    def test_refresh_takes_commits(self) -> None:
        self.good("lay")
        (self.linux / "mm/new.c").write_text("int newer;\n")
        (self.linux / "mm/other.c").write_text("int other;\n")
        self.hook("OPTION_6", "mm: Hook in a third")
        self.good("refresh")
        self.assertEqual((self.project / "mm/new.c").read_text(), "int newer;\n")
        self.assertEqual((self.project / "mm/other.c").read_text(), "int other;\n")
        patch = (self.project / "patches/6.12/0003-mm-hook-in-a-third.patch").read_text()
        self.assertNotIn("other.c", patch)
        self.assertIn("# test instruments\n0002-mm-hook-in-an-instrument.patch\n"
                      "0003-mm-hook-in-a-third.patch\n",
                      (self.project / "patches/6.12/series").read_text())
        self.good("refresh")
        shutil.rmtree(self.build)
        self.good("lay")
        self.assertEqual((self.linux / "mm/Kconfig").read_text().count("default y"), 3)

    def test_refresh_keeps_work_in_the_repository(self) -> None:
        self.good("lay")
        self.hook("OPTION_6", "mm: Hook in a third")
        (self.project / "mm/mine.c").write_text("int mine;\n")
        (self.project / "mm/new.c").write_text("int edited;\n")
        self.assertIn("the repository changed", self.bad("refresh"))
        self.assertEqual((self.project / "mm/mine.c").read_text(), "int mine;\n")
        self.assertEqual((self.project / "mm/new.c").read_text(), "int edited;\n")

    def test_refresh_after_the_base_moved(self) -> None:
        """Laying refuses, refreshing is still against the base that the tree was laid on."""
        self.good("lay")
        self.hook("OPTION_6", "mm: Hook in a third")
        (self.kernel / "Makefile").write_text(MAKEFILE.replace("117", "118"))
        self.assertIn("changes of its own", self.bad("lay"))
        self.good("refresh")
        self.assertEqual(self.status(), "M patches/6.12/series\n"
                         "?? patches/6.12/0003-mm-hook-in-a-third.patch")
        self.good("lay")
        self.assertIn("118", (self.linux / "Makefile").read_text())

    def test_refresh_refuses_equal_subjects(self) -> None:
        self.good("lay")
        self.hook("OPTION_6", "mm: Hook in a third")
        self.hook("OPTION_7", "mm: Hook in a third")
        self.assertIn("two commits have the subject", self.bad("refresh"))
        self.assertEqual(self.status(), "")

    def test_refresh_with_strange_files(self) -> None:
        (self.kernel / "mm/dos").write_bytes(b"a\r\nb\r\nc\r\n")
        self.good("lay")
        (self.linux / "mm/dos").write_bytes(b"a\r\nb\r\nhook\r\nc\r\n")
        (self.linux / "mm/übung.c").write_text("int ü;\n")
        self.commit(self.linux, "mm: Hook into a file with CRLF")
        self.good("refresh")
        self.assertEqual((self.project / "mm/übung.c").read_text(), "int ü;\n")
        shutil.rmtree(self.build)
        self.good("lay")
        self.assertEqual((self.linux / "mm/dos").read_bytes(), b"a\r\nb\r\nhook\r\nc\r\n")

    def test_build_inside_the_clone(self) -> None:
        inside = self.project / "my-build"
        for _ in range(2):
            self.good("lay", BUILD=str(inside), OUT=str(self.project / "results"))
            (self.project / "results").mkdir(exist_ok=True)
            (self.project / "results/matrix.json").write_text("{}")
        self.assertFalse((inside / "linux/my-build").exists())
        self.assertFalse((inside / "linux/results").exists())

    def test_refresh_refuses_uncommitted(self) -> None:
        self.good("lay")
        (self.linux / "mm/new.c").write_text("int newer;\n")
        self.assertIn("uncommitted changes", self.bad("refresh"))
        self.assertEqual(self.status(), "")

    def test_own_work_is_kept(self) -> None:
        self.good("lay")
        (self.linux / "mm/new.c").write_text("int mine;\n")
        self.assertIn("not in the repository yet", self.good("lay"))
        (self.project / "mm/new.c").write_text("int theirs;\n")
        self.assertIn("changes of its own", self.bad("lay"))
        self.assertEqual((self.linux / "mm/new.c").read_text(), "int mine;\n")

    def series(self, **env: str) -> str:
        """Runs series.py; the overlay's file comes with the first hook, and a message is alone."""
        (self.project / "patches/files.toml").write_text(
            '"0001" = ["mm/new.c"]\n"0003" = ["tools/*"]\n')
        (self.project / "patches/cover-letter").write_text("All of it\n\nWhy it is here.\n")
        patches = self.project / "patches/6.12"
        first = (patches / "0001-mm-hook-in-the-first.patch").read_text()
        (patches / "0003-tools.patch").write_text(
            first.split("Subject: ")[0] + "Subject: [PATCH] tools: Add them\n\nA runner.\n\n"
            "Red-without: build\nSigned-off-by: Dev <dev@example.org>\n---\n")
        (patches / "series").write_text("# mm\n0001-mm-hook-in-the-first.patch\n\n"
                                        "# test instruments\n0002-mm-hook-in-an-instrument.patch\n"
                                        "0003-tools.patch\n")
        done = subprocess.run(
            [sys.executable, "-B", self.project / "tools/testing/memtype/series.py", "series"],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            cwd=self.project, env={
                **os.environ, "BUILD": str(self.build), "OUT": str(self.build / "out"),
                "KSRC": str(self.kernel), "BASE": "", "KERNEL": "patched", "CONFIG": "", **env})
        self.assertNotIn("Traceback", done.stdout)
        return done.stdout

    def test_series_is_a_mailbox(self) -> None:
        self.series()
        clone = self.build / "clone"
        self.git(self.build, "clone", "-q", str(self.kernel), str(clone))
        self.git(clone, "am", "-q", str(self.build / "out/memtype-6.12.mbox"))
        self.assertEqual(self.git(clone, "rev-parse", "HEAD^{tree}"),
                         self.git(self.linux, "rev-parse", "HEAD^{tree}"))
        self.assertEqual(self.git(clone, "show", "--name-only", "--format=%s", "HEAD~2"),
                         "mm: Hook in the first\n\nmm/Kconfig\nmm/new.c")
        # Whoever gets it has none of our tests.
        self.assertEqual(self.git(clone, "log", "-1", "--format=%B"),
                         "tools: Add them\n\nA runner.\n\nSigned-off-by: Dev <dev@example.org>")

    def test_series_of_a_sender(self) -> None:
        self.series(SENDER="Me Myself <me@example.org>")
        cover, first, *_ = sorted((self.build / "out/series").glob("*.patch"))
        said = cover.read_text()
        self.assertIn("From: Me Myself <me@example.org>", said)
        self.assertIn("[PATCH 0/3] All of it\n\nWhy it is here.\n", said)
        self.assertIn("mm\n   1  mm: Hook in the first\n", said)
        self.assertIn("From: Me Myself <me@example.org>", first.read_text())
        self.assertIn("SENDER=me: must look like", self.series(SENDER="me"))

    def test_series_wants_an_owner_of_each_file(self) -> None:
        (self.project / "mm/other.c").write_text("int other;\n")
        self.assertIn("mm/other.c belongs to no patch", self.series())

    def test_export(self) -> None:
        target = self.build / "exported tree"
        self.good("export", str(target))
        self.assertEqual((target / "mm/Kconfig").read_text().count("default y"), 2)
        self.assertFalse((target / ".git").exists())
        self.assertIn("is not empty", self.bad("export", str(target)))


if __name__ == "__main__":
    unittest.main()
