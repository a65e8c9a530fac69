# SPDX-License-Identifier: GPL-2.0-only
"""Emulators that a machine needs: where QEMU 10 comes from, and which Bochs is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import platform
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import debian
import machine
import matrix
import tables
from results import BOOT, FAIL, NOT_RUN, PROGRAM, SKIP
from tables import Test

# Answers --version as QEMU does.
QEMU = "#!/bin/sh\necho QEMU emulator version {} '(Debian)'\n"
# Stands for apt-get and dpkg: the archive is made up, and has what {suite} says.
APT = """#!/bin/sh
case "$*" in
*indextargets*) echo http://archive.example/debian/ ;;
*update) [ -n '{suite}' ] || {{ echo "E: no such suite" >&2; exit 100; }} ;;
*download*) touch qemu-system-arm_1.deb ;;
esac
"""
DPKG = "#!/bin/sh\nmkdir -p $3/usr/bin && cp {qemu} $3/usr/bin/qemu-system-aarch64\n"


class Qemu10(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        self.bin = self.top / "bin"
        self.bin.mkdir()
        self.build = self.top / "build"
        self.enterContext(mock.patch.object(debian, "BUILD", self.build))
        self.enterContext(mock.patch.dict(os.environ, PATH=f"{self.bin}:/usr/bin:/bin"))
        self.enterContext(mock.patch.object(platform, "freedesktop_os_release",
                                            lambda: {"VERSION_CODENAME": "testing"}))
        self.program("qemu-system-aarch64", QEMU.format("7.2.22"))
        self.archive("10.0.2", suite="testing-backports")

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def archive(self, version: str, suite: str) -> None:
        self.program("newer", QEMU.format(version))
        self.program("dpkg", DPKG.format(qemu=self.bin / "newer"))
        self.program("apt-get", APT.format(suite=suite))

    def test_installed(self) -> None:
        self.program("qemu-system-aarch64", QEMU.format("11.1.0"))
        self.assertEqual(debian.qemu10(), self.bin / "qemu-system-aarch64")
        self.assertFalse(self.build.exists())

    def test_backports(self) -> None:
        found = debian.qemu10()
        self.assertTrue(found.is_relative_to(self.build))
        self.assertEqual(
            (self.build / "qemu10/sources.list").read_text(),
            f"deb [signed-by={debian.KEYRING}] http://archive.example/debian/ "
            "testing-backports main\n")
        self.archive("10.0.2", suite="")        # the second time asks for nothing
        self.assertEqual(debian.qemu10(), found)

    def test_unavailable(self) -> None:
        for version, suite, said in (("10.0.2", "", "E: no such suite"),
                                     ("9.2.0", "testing-backports", "does not run here, or is"),
                                     ("", "testing-backports", "does not run here, or is")):
            self.archive(version, suite)
            with self.subTest(said), self.assertRaisesRegex(debian.Unavailable, said):
                debian.qemu10()

    def test_skip(self) -> None:
        """Every suite of the machine, for the reason, and nothing is booted."""
        self.archive("10.0.2", suite="")
        item = tables.all_machines()["arm64-dic"]
        tests = [Test("kvm/a", [item.name]), Test("kvm/b", [item.name]), Test("kvm/c", ["other"])]
        with mock.patch.object(machine, "BUILD", self.build):
            _, results = matrix.run_one(item, tests, Path("/nonexistent"),
                                        matrix.Progress([item.name]), self.top / "out")
        self.assertEqual([(result.suite, result.test, result.status) for result in results],
                         [(BOOT, "boot", SKIP), ("kvm/a", PROGRAM, SKIP),
                          ("kvm/b", PROGRAM, SKIP)])
        self.assertTrue(all("E: no such suite" in result.reason for result in results))

    def test_a_machine_that_must_be_there(self) -> None:
        """What nobody said may be missing is one failure, whatever the reason; the others run."""
        item = dataclasses.replace(tables.all_machines()["arm64-dic"], optional=False)
        tests = [Test("kvm/a", [item.name]), Test("kvm/b", [item.name])]
        for error in (debian.Unavailable("E: no such suite"), ValueError("odd")):
            with mock.patch.object(machine, "BUILD", self.build), \
                    mock.patch.object(debian, "qemu10", side_effect=error), \
                    contextlib.redirect_stderr(io.StringIO()):
                _, results = matrix.run_one(item, tests, Path("/nonexistent"),
                                            matrix.Progress([item.name]), self.top / "out")
            boot, *rest = results
            self.assertEqual((boot.suite, boot.status), (BOOT, FAIL))
            self.assertIn(str(error), boot.reason)
            self.assertEqual([(result.status, result.cause) for result in rest],
                             [(NOT_RUN, boot.name)] * 2)


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


if __name__ == "__main__":
    unittest.main()
