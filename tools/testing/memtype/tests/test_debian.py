# SPDX-License-Identifier: GPL-2.0-only
"""What comes from other suites, QEMU and kernel sources, and which Bochs is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import platform
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import debian
import machine
import matrix
import tables
from results import BOOT, FAIL, NOT_RUN, PROGRAM, SKIP
from settings import Error, Source
from tables import Test

# Answers --version as QEMU does; what it is started with goes to its standard error.
QEMU = """#!/bin/sh
echo QEMU emulator version {} '(Debian)'
echo "$QEMU_MODULE_DIR $*" >&2
"""
# Stands for apt-get: the archive is made up, and {suites} of it have a QEMU.
APT = """#!/bin/sh
for word; do
    case $word in
    Dir::Cache=*) cache=${{word#*=}} ;;
    --target-release=*) suite=${{word#*=}} ;;
    esac
done
case "$*" in
*indextargets*) echo http://archive.example/debian/ ;;
*install*)
    cp "${{cache%/*}}/sources.list" {top}
    case " {suites} " in
    *" $suite "*) touch "$cache/archives/qemu-system_1.deb" ;;
    *) echo "E: $suite has no such package" >&2; exit 100 ;;
    esac ;;
esac
"""
# Stands for dpkg -x: a QEMU, and the dynamic linker that it is started by.
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin" "$3/usr/lib/x86_64-linux-gnu"
for name in x86_64 aarch64; do cp {qemu} "$3/usr/bin/qemu-system-$name"; done
printf '#!/bin/sh\nshift 2\nexec "$@"\n' >"$3/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
chmod +x "$3/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
"""


class Qemu(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        self.bin = self.top / "bin"
        self.bin.mkdir()
        self.build = self.top / "build"
        self.enterContext(mock.patch.object(debian, "SHARED", self.build))
        self.enterContext(mock.patch.object(debian, "say"))
        self.enterContext(mock.patch.dict(os.environ, PATH=f"{self.bin}:/usr/bin:/bin"))
        self.enterContext(mock.patch.object(platform, "freedesktop_os_release",
                                            lambda: {"VERSION_CODENAME": "testing"}))
        self.program("qemu-system-aarch64", QEMU.format("7.2.22"))
        self.program("qemu-system-x86_64", QEMU.format("7.2.22"))
        self.archive("10.0.2", "testing-backports")

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def archive(self, version: str, *suites: str) -> None:
        self.program("newer", QEMU.format(version))
        self.program("dpkg", DPKG.format(qemu=self.bin / "newer"))
        self.program("apt-get", APT.format(suites=" ".join(suites), top=self.top))

    def sources(self) -> list[str]:
        """The suites of the last package list."""
        start = f"deb [signed-by={debian.KEYRING}] http://archive.example/debian/ "
        lines = (self.top / "sources.list").read_text().splitlines()
        self.assertTrue(all(line.startswith(start) for line in lines))
        return [line.removeprefix(start) for line in lines]

    def test_installed(self) -> None:
        self.program("qemu-system-aarch64", QEMU.format("11.1.0"))
        for major in debian.SUITES:
            self.assertEqual(debian.qemu("arm64", major), self.bin / "qemu-system-aarch64")
        self.assertFalse(self.build.exists())

    def test_backports(self) -> None:
        found = debian.qemu("arm64", 10)
        self.assertTrue(found.is_relative_to(self.build))
        self.assertEqual(self.sources(), ["testing main", "testing-backports main"])
        self.archive("10.0.2")              # the second time asks for nothing
        self.assertEqual(debian.qemu("arm64", 10), found)

    def test_newest(self) -> None:
        """The next suite is tried where one has none, or an older one."""
        for version, suite in (("11.1.2", "stable-backports"), ("11.1.3", "unstable")):
            self.archive(version, suite)
            found = debian.qemu("x86_64", 11)
            self.assertEqual(debian.qemu_major(found), 11)
            self.assertEqual(self.sources()[-1], f"{suite} main")
            shutil.rmtree(self.build)
        self.archive("10.2.2", "stable-backports", "unstable")
        with self.assertRaisesRegex(debian.Unavailable, "Debian unstable does not run here, or is"):
            debian.qemu("x86_64", 11)

    def test_start(self) -> None:
        """With what was unpacked beside it, and with the machine's own arguments."""
        found = debian.qemu("arm64", 10)
        root = found.parent / "root"
        done = subprocess.run([found, "-M", "a  b"], capture_output=True, text=True, check=True)
        self.assertEqual(done.stderr, f"{root}/usr/lib/x86_64-linux-gnu/qemu -L "
                         f"{root}/usr/share/qemu -L {root}/usr/share/seabios -M a  b\n")

    def test_unavailable(self) -> None:
        for version, suites, said in (
                ("10.0.2", (), "E: testing-backports has no such package"),
                ("9.2.0", ("testing-backports",), "does not run here, or is older"),
                ("", ("testing-backports",), "does not run here, or is older")):
            self.archive(version, *suites)
            with self.subTest(said), \
                    self.assertRaisesRegex(debian.Unavailable, f"needs QEMU 10, which .*{said}"):
                debian.qemu("arm64", 10)

    def test_skip(self) -> None:
        """Every suite of the machine, for the reason, and nothing is booted."""
        self.archive("10.0.2")
        item = tables.all_machines()["arm64-dic"]
        tests = [Test("kvm/a", [item.name]), Test("kvm/b", [item.name]), Test("kvm/c", ["other"])]
        with mock.patch.object(machine, "BUILD", self.build):
            _, results = matrix.run_one(item, tests, Path("/nonexistent"),
                                        matrix.Progress([item.name]), self.top / "out")
        self.assertEqual([(result.suite, result.test, result.status) for result in results],
                         [(BOOT, "boot", SKIP), ("kvm/a", PROGRAM, SKIP),
                          ("kvm/b", PROGRAM, SKIP)])
        self.assertTrue(all("E: testing-backports has no" in result.reason for result in results))

    def test_a_machine_that_must_be_there(self) -> None:
        """What nobody said may be missing is one failure, whatever the reason; the others run."""
        item = dataclasses.replace(tables.all_machines()["arm64-dic"], optional=False)
        tests = [Test("kvm/a", [item.name]), Test("kvm/b", [item.name])]
        for error in (debian.Unavailable("E: no such suite"), ValueError("odd")):
            with mock.patch.object(machine, "BUILD", self.build), \
                    mock.patch.object(debian, "qemu", side_effect=error), \
                    contextlib.redirect_stderr(io.StringIO()):
                _, results = matrix.run_one(item, tests, Path("/nonexistent"),
                                            matrix.Progress([item.name]), self.top / "out")
            boot, *rest = results
            self.assertEqual((boot.suite, boot.status), (BOOT, FAIL))
            self.assertIn(str(error), boot.reason)
            self.assertEqual([(result.status, result.cause) for result in rest],
                             [(NOT_RUN, boot.name)] * 2)


class KernelSource(unittest.TestCase):
    """The source of a base that Debian has in another suite."""

    # The first suite does not have it.
    APT = """#!/bin/sh
echo "$*" >>{top}/asked
case "$*" in
*indextargets*) echo http://archive.example/debian/ ;;
*update) ! grep -q "$(cat {top}/down)" {top}/build/source/sources.list ;;
*download*) touch linux-source-9.9_1.deb ;;
esac
"""
    DPKG = "#!/bin/sh\nmkdir -p $3/usr/src && touch $3/usr/src/linux-source-9.9.tar.xz\n"

    def setUp(self) -> None:
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.object(debian, "BUILD", self.top / "build"))
        self.enterContext(mock.patch.dict(os.environ, PATH=f"{self.top}:/usr/bin:/bin"))
        self.enterContext(mock.patch.object(platform, "freedesktop_os_release",
                                            lambda: {"VERSION_CODENAME": "testing"}))
        for name, text in (("apt-get", self.APT.format(top=self.top)), ("dpkg", self.DPKG)):
            (self.top / name).write_text(text)
            (self.top / name).chmod(0o755)
        self.source = Source("linux-source-9.9", ["first", "second"])

    def test_second_suite(self) -> None:
        (self.top / "down").write_text("first")
        found = debian.kernel_source(self.source)
        self.assertEqual(found, self.top / "build/source/usr/src/linux-source-9.9.tar.xz")
        self.assertEqual((self.top / "build/source/sources.list").read_text(),
                         f"deb [signed-by={debian.KEYRING}] http://archive.example/debian/ "
                         "second main\n")
        (self.top / "asked").unlink()
        self.assertEqual(debian.kernel_source(self.source), found)
        self.assertFalse((self.top / "asked").exists())

    def test_unavailable(self) -> None:
        (self.top / "down").write_text("main")
        with self.assertRaisesRegex(Error, "linux-source-9.9 is not installed, and none of first, "
                                    "second has it for us: name a tree with KSRC="):
            debian.kernel_source(self.source)

    def test_to_install(self) -> None:
        with self.assertRaisesRegex(Error, "install linux-source-9.9 .make setup., or .* KSRC="):
            debian.kernel_source(Source("linux-source-9.9"))


class Download(unittest.TestCase):
    """Of the archive of a source package."""

    # It is interrupted, or comes to its end.
    APT = """#!/bin/sh
case "$*" in
*indextargets*) echo http://archive.example/debian/ ;;
*" source "*)
    echo half >qemu_1.orig.tar.xz
    [ -e {top}/up ] || exit 1
    echo whole >qemu_1.orig.tar.xz ;;
esac
"""

    def test_interrupted(self) -> None:
        """A part of it is never taken for it."""
        top = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (top / "apt-get").write_text(self.APT.format(top=top))
        (top / "apt-get").chmod(0o755)
        out = top / "out"
        with mock.patch.dict(os.environ, PATH=f"{top}:/usr/bin:/bin"), mock.patch.object(
                platform, "freedesktop_os_release", lambda: {"VERSION_CODENAME": "testing"}):
            with self.assertRaises(Error):
                debian.download_source("qemu", "1:1-1", "unstable", out)
            self.assertEqual(list(out.glob("*.tar.xz")), [])
            (top / "up").touch()
            debian.download_source("qemu", "1:1-1", "unstable", out)
        self.assertEqual([path.name for path in out.iterdir()], ["qemu_1.orig.tar.xz"])
        self.assertEqual((out / "qemu_1.orig.tar.xz").read_text(), "whole\n")


class Bochs(unittest.TestCase):
    """Stand-ins that print what Debian's do for --help."""

    def check(self, text: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "bochs-bin"
            path.write_text(f"#!/bin/sh\necho '{text}'\n")
            path.chmod(0o755)
            with mock.patch.dict(os.environ, PATH=f"{scratch}:/usr/bin:/bin"):
                debian.check_bochs()

    def test_version_3(self) -> None:
        for version in ("3.0", "3.1.devel"):
            with self.assertRaisesRegex(
                    debian.Unavailable, f"needs Bochs 2.7, and this is {version}: KVM guests fail"):
                self.check(f"   Bochs x86 Emulator {version}")

    def test_version_2(self) -> None:
        self.check("   Bochs x86 Emulator 2.7")
        self.check("nothing that we know")
        with mock.patch.dict(os.environ, PATH="/nowhere"):
            self.assertEqual(debian.bochs_version(), "")


class Unpacked(unittest.TestCase):
    def test_suites(self) -> None:
        """Of the first suite that has it, and of the architecture that was asked for."""
        tried = []

        def download(package: str, _state: Path, *options: str) -> Path:
            sources = next(Path(word.partition("=")[2]) for word in options
                           if word.startswith("Dir::Etc::sourcelist="))
            tried.append(sources.read_text().split()[-2])
            self.assertIn("APT::Architecture=arm64", options)
            if tried[-1] == "old":
                raise Error("none")
            return Path(package)

        def output(command: list[str | Path]) -> str:
            Path(command[-1], "data").touch()         # dpkg -x
            return ""

        with tempfile.TemporaryDirectory() as scratch, \
                mock.patch.object(debian, "SHARED", Path(scratch)), \
                mock.patch.object(debian, "archive", return_value=("http://a.example/", "here")), \
                mock.patch.object(debian, "download", download), \
                mock.patch.object(debian, "output", output), mock.patch.object(debian, "say"):
            for _ in range(2):      # the second time asks for nothing
                self.assertEqual(debian.unpacked("data", "arm64", ["old", "new", "newer"]),
                                 Path(scratch) / "data/arm64")
        self.assertEqual(tried, ["old", "new"])


if __name__ == "__main__":
    unittest.main()
