# SPDX-License-Identifier: GPL-2.0-only
"""Of `make vmm`: the root file system, from an archive that is made up, and what a guest boots."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import socket
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import build
import debian
import machine
import matrix
import qemu
import rootfs
import tables
import tree
from results import SKIP
from settings import Error, output
from tables import Test

# Stands for debootstrap: "downloads" a package that is built here.
DEBOOTSTRAP = """#!/bin/sh
echo "$@" > {top}/asked
echo "$http_proxy" > {top}/proxy
cp "$WGETRC" {top}/given
[ ! -e {top}/slow ] || exec wget -nv -O /dev/null "$(cat {top}/slow)"
[ -e {top}/archive ] || {{ echo "E: no archive" >&2; exit 1; }}
for word; do [ -d "$word" ] && target=$word; done
mkdir -p "$target/debootstrap" "$target/var/cache/apt/archives"
dpkg-deb --build {top}/package "$target/var/cache/apt/archives/qemu-system-arm_1_all.deb"
"""
APT_CONFIG = """#!/bin/sh
[ ! -e {top}/apt-proxy ] || echo "P='$(cat {top}/apt-proxy)'"
"""
CONTROL = ("Package: qemu-system-arm\nVersion: {}\nArchitecture: all\nMaintainer: a\n"
           "Description: b\n")


class Rootfs(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        for name, text in (("package/DEBIAN/control", CONTROL.format("1")),
                           ("package/usr/bin/qemu", "qemu"),
                           ("package/DEBIAN/md5sums", "0  usr/bin/qemu\n"),
                           ("bin/debootstrap", DEBOOTSTRAP.format(top=self.top)),
                           ("bin/apt-config", APT_CONFIG.format(top=self.top)), ("archive", "")):
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).write_text(text)
        for name in ("debootstrap", "apt-config"):
            (self.top / "bin" / name).chmod(0o755)
        # dpkg-deb wants this, whatever the umask
        os.chmod(self.top / "package/DEBIAN", 0o755)
        self.enterContext(mock.patch.object(rootfs, "SHARED", self.top / "build"))
        self.enterContext(mock.patch.object(debian, "archive",
                                            lambda: ("http://archive.example/debian/", "testing")))
        self.enterContext(mock.patch.dict(os.environ, http_proxy="",
                                          PATH=f"{self.top}/bin:{os.environ['PATH']}"))

    def version(self, version: str) -> None:
        """The package of the archive has this version."""
        (self.top / "package/DEBIAN/control").write_text(CONTROL.format(version))

    def test_made_once(self) -> None:
        rootfs.make("arm64")
        root = rootfs.directory("arm64")
        self.assertEqual(sorted(str(path.relative_to(root)) for path in root.rglob("*")
                                if path.is_file()),
                         ["DEBIAN/control", "DEBIAN/md5sums", "usr/bin/qemu"])
        self.assertEqual(
            (self.top / "asked").read_text().split()[-5:],
            [f"--keyring={debian.KEYRING}", "--force-check-gpg", "testing",
             f"{root}.new", "http://archive.example/debian/"])
        (self.top / "archive").unlink()
        rootfs.make("arm64")        # the second time asks for nothing

    def test_unavailable(self) -> None:
        """An error of the user's, and the next try starts anew."""
        (self.top / "archive").unlink()
        with self.assertRaisesRegex(Error, "E: no archive"):
            rootfs.make("arm64")
        self.assertFalse(rootfs.directory("arm64").exists())
        (self.top / "archive").touch()
        rootfs.make("arm64")
        self.assertTrue((rootfs.directory("arm64") / "usr/bin/qemu").exists())

    def test_qemu11(self) -> None:
        """Of another suite of the same archive, beside this Debian's own; made once."""
        self.version("1:11.1.3+ds-1")
        rootfs.make("arm64")
        root = rootfs.qemu11("arm64")
        self.assertEqual((self.top / "asked").read_text().split()[-3:],
                         ["unstable", f"{root}.new", "http://archive.example/debian/"])
        self.assertEqual(sorted(path.name for path in root.parent.iterdir()),
                         ["arm64", "arm64-unstable"])
        (self.top / "archive").unlink()
        self.assertEqual(rootfs.qemu11("arm64"), root)

    def test_no_qemu11(self) -> None:
        """The machine that needs it is skipped, for the reason, and nothing is booted."""
        item = dataclasses.replace(tables.all_machines()["x86-amd-vmm11"], arch="arm64")
        for version, said in (("1:10.2.2+ds-3", "Debian unstable has 10.2.2+ds-3"),
                              ("9", "Debian unstable has 9"), ("", "E: no archive")):
            self.version(version or "11")
            if not version:
                (self.top / "archive").unlink()
            with self.subTest(said), mock.patch.object(machine, "BUILD", self.top / "build"):
                _, results = matrix.run_one(item, [Test("memtype/a", [item.name])], Path("/none"),
                                            matrix.Progress([item.name]), self.top / "out")
                self.assertEqual([result.status for result in results], [SKIP, SKIP])
                self.assertIn(f"needs QEMU 11, which cannot be had: {said}", results[0].reason)
            shutil.rmtree(self.top / "build")

    def test_made_for_a_machine(self) -> None:
        """Which has it by 9p, or carries some of it."""
        for name, made in (("x86-amd-vmm", True), ("x86-intel-vmm-asks", True),
                           ("x86-intel-vmm", False)):
            with self.subTest(name), mock.patch.object(tree, "lay"), \
                    mock.patch.object(rootfs, "make") as make:
                matrix.prepare({name: tables.all_machines()[name]})
                self.assertEqual(make.called, made)

    def test_errors(self) -> None:
        """No traceback if a tool is missing, and no wait without end."""
        with mock.patch.object(rootfs, "output", side_effect=FileNotFoundError("debootstrap")), \
                self.assertRaisesRegex(Error, "arm64 root file system: debootstrap"):
            rootfs.make("arm64")
        with socket.create_server(("localhost", 0)) as silent:
            (self.top / "slow").write_text("http://localhost:{1}/".format(*silent.getsockname()))
            with mock.patch.object(rootfs, "LIMIT", 0.2), \
                    self.assertRaisesRegex(Error, "timed out"):
                rootfs.make("arm64")
        self.assertFalse(rootfs.directory("arm64").exists())

    def test_wgetrc(self) -> None:
        """The user's own still counts."""
        (self.top / "wgetrc").write_text("user_agent = me")
        with mock.patch.dict(os.environ, WGETRC=str(self.top / "wgetrc")):
            rootfs.make("arm64")
        self.assertEqual((self.top / "given").read_text(),
                         f"user_agent = me\ntimeout = {rootfs.LIMIT}\ntries = 2\n")

    def test_proxy(self) -> None:
        """The user's, else apt's."""
        for user, apt, given in (("", None, ""), ("", "http://a.example:1/", "http://a.example:1/"),
                                 ("", "DIRECT", ""),
                                 ("http://b.example/", "http://a.example/", "http://b.example/")):
            if apt:
                (self.top / "apt-proxy").write_text(apt)
            with self.subTest(user=user, apt=apt), mock.patch.dict(os.environ, http_proxy=user):
                rootfs.make("arm64")
                self.assertEqual((self.top / "proxy").read_text().strip(), given)
            shutil.rmtree(rootfs.directory("arm64"))


class Carried(unittest.TestCase):
    """What an initramfs has of a QEMU: this machine's own make stands for it."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        self.root = self.top / "root"
        for name in rootfs.FIRMWARE:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text("")
        program = Path(shutil.which("make") or "").resolve()
        for place in ("root/usr/bin/qemu-system-x86_64", "asks/qemu-system-x86_64"):
            (self.top / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(program, self.top / place)
        said = output(["ldd", program])
        for name, path in re.findall(r"(?:(\S+) => )?(/\S+) \(0x", said):
            library = self.root / "usr/lib/any" / Path(name or path).name
            library.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, library)
        # One that would lead out of the root
        (self.root / "lib64").mkdir()
        (self.root / "lib64/libc.so.6").symlink_to("/nowhere/libc.so.6")

    def test_nothing(self) -> None:
        self.assertEqual(rootfs.carried([], "x86_64"), {})

    def test_as_it_is_carried(self) -> None:
        """It starts with no other libraries than these."""
        found = rootfs.carried([str(self.root)], "x86_64")
        program = found.pop("/debian/usr/bin/qemu-system-x86_64")
        self.assertEqual(program, self.root / "usr/bin/qemu-system-x86_64")
        self.assertEqual({name for name in found if "/share/" in name},
                         {f"/debian/{name}" for name in rootfs.FIRMWARE})
        loader = found["/debian/lib64/ld-linux-x86-64.so.2"]
        carried = self.top / "libraries"
        carried.mkdir()
        for name, path in found.items():
            if name.startswith("/debian/usr/lib/"):
                shutil.copy(path, carried / Path(name).name)
        self.assertIn("GNU Make", output([loader, "--library-path", carried, program, "--version"]))

    def test_one_that_asks(self) -> None:
        """It is beside Debian's files, and has their libraries."""
        found = rootfs.carried([str(self.root), str(self.top / "asks")], "x86_64")
        self.assertEqual(found["/debian/asks/qemu-system-x86_64"],
                         self.top / "asks/qemu-system-x86_64")
        self.assertIn("/debian/usr/lib/libc.so.6", found)
        self.assertNotIn("/debian/usr/bin/qemu-system-x86_64", found)

    def test_no_source(self) -> None:
        """The machine of a QEMU that asks is skipped where that cannot be built."""
        item = tables.all_machines()["x86-intel-vmm-asks"]
        with mock.patch.object(machine, "BUILD", self.top), \
                mock.patch.object(qemu, "OUT", self.top / "qemu"), \
                mock.patch.object(debian, "download_source", side_effect=Error("E: gone")), \
                mock.patch.object(qemu, "say"):
            _, results = matrix.run_one(item, [Test("memtype/a", [item.name])], Path("/none"),
                                        matrix.Progress([item.name]), self.top / "out")
        self.assertEqual([result.status for result in results], [SKIP, SKIP])
        self.assertIn("needs QEMU's source, which cannot be had: E: gone", results[0].reason)


class Guest(unittest.TestCase):
    def packed(self, name: str, *guests: list[str]) -> list[tuple[list[str], bool]]:
        """Of each initramfs of the machine for guests: its programs, and whether it has a shell."""
        found = []

        def initramfs(_arch: str, tests: list[Test], _target: Path, shell: Path | None) -> None:
            found.append(([test.program for test in tests], bool(shell)))

        tests = [Test(f"kvm/{number}", [name], guest=guest) for number, guest in enumerate(guests)]
        boot = machine.Boot(tables.all_machines()[name], tests, Path("/nowhere"),
                            lambda suite, what: None)
        with mock.patch.object(build, "initramfs", initramfs), \
                mock.patch.object(debian, "busybox", lambda arch: Path("/bin/busybox")):
            self.assertEqual(bool(boot.guest(Path("/kernel"))), bool(found))
        return found

    def test_guest(self) -> None:
        """One for all tests of the machine; a shell where somebody can type."""
        self.assertEqual(self.packed("x86-amd-vmm", ["memtype/b"], [], ["memtype/a", "memtype/b"]),
                         [(["memtype/a", "memtype/b"], True)])
        self.assertEqual(self.packed("x86-intel-vmm", ["memtype/a"]), [(["memtype/a"], False)])
        self.assertEqual(self.packed("x86-intel-vmm11", ["memtype/a"]), [(["memtype/a"], True)])
        self.assertEqual(self.packed("x86-amd", []), [])


if __name__ == "__main__":
    unittest.main()
