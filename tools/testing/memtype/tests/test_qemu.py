# SPDX-License-Identifier: GPL-2.0-only
"""`make qemu`: what is downloaded, how the source is laid, and what is done again when."""

from __future__ import annotations

import os
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import debian
import qemu
import settings
from settings import Error

THEIRS = "one\ntwo\nthree\n"
PATCH = """--- a/meson.build
+++ b/meson.build
@@ -1,3 +1,3 @@
 one
-two
+{}
 three
"""


class Qemu(unittest.TestCase):
    """An archive with two files, a patch and a new file."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        self.out, ours = self.top / "out", self.top / "ours"
        for name, value in (("OURS", ours), ("PATCHES", ours / "patches"), ("OUT", self.out),
                            ("VERSION", ours / "version"), ("SOURCE", self.out / "source")):
            self.enterContext(mock.patch.object(qemu, name, value))
        self.enterContext(mock.patch.object(qemu, "say"))
        self.write(ours / "version", "1:10.2.2+ds-1\n")
        self.write(ours / "patches/series", "0001.patch\n")
        self.write(ours / "patches/0001.patch", PATCH.format("ours"))
        self.write(ours / "qapi/memtype.json", "{}\n")
        self.write(self.top / "qemu/meson.build", THEIRS)
        self.write(self.top / "qemu/roms/bios", "")
        self.out.mkdir()
        self.archive = self.out / "qemu_10.2.2+ds.orig.tar.xz"
        with tarfile.open(self.archive, "w:xz") as archive:
            archive.add(self.top / "qemu", "qemu")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def source(self, name: str) -> str:
        path: Path = qemu.SOURCE / name
        return path.read_text()


class Source(Qemu):
    def test_lay(self) -> None:
        qemu.lay()
        self.assertEqual(self.source("meson.build"), "one\nours\nthree\n")
        self.assertEqual(self.source("qapi/memtype.json"), "{}\n")
        self.assertTrue((qemu.SOURCE / "linux-headers/linux/kvm_memtype.h").exists())
        self.assertFalse((qemu.SOURCE / "roms").exists())
        self.assertFalse((qemu.SOURCE / "version").exists())

    def test_once(self) -> None:
        """What is there stays; a file of ours that changes is copied, and nothing else."""
        qemu.lay()
        kept = os.stat(qemu.SOURCE / "meson.build")
        self.write(qemu.OURS / "qapi/memtype.json", "[]\n")
        qemu.lay()
        self.assertEqual(self.source("qapi/memtype.json"), "[]\n")
        now = os.stat(qemu.SOURCE / "meson.build")
        self.assertEqual((now.st_ino, now.st_mtime_ns), (kept.st_ino, kept.st_mtime_ns))

    def test_another_patch(self) -> None:
        qemu.lay()
        self.write(qemu.PATCHES / "0001.patch", PATCH.format("theirs"))
        qemu.lay()
        self.assertEqual(self.source("meson.build"), "one\ntheirs\nthree\n")

    def test_a_file_that_goes(self) -> None:
        """What we no longer have must not be compiled."""
        self.write(qemu.OURS / "accel/old.c", "")
        qemu.lay()
        (qemu.OURS / "accel/old.c").unlink()
        qemu.lay()
        self.assertFalse((qemu.SOURCE / "accel/old.c").exists())

    def test_interrupted(self) -> None:
        """A source of which something is missing is not taken for the whole."""
        output = settings.output
        for last in "tar", "apply":
            def until(command: list[str | Path], last: str = last) -> str:
                done: str = output(command)
                if last in command:
                    raise KeyboardInterrupt
                return done

            with self.subTest(last):
                with mock.patch.object(qemu, "output", side_effect=until), \
                        self.assertRaises(KeyboardInterrupt):
                    qemu.lay()
                (qemu.SOURCE / "meson.build").unlink()
                qemu.lay()
                self.assertEqual(self.source("meson.build"), "one\nours\nthree\n")
                (qemu.SOURCE / "memtype.stamp").unlink()

    def test_twice(self) -> None:
        self.write(qemu.OURS / "meson.build", THEIRS)
        with self.assertRaisesRegex(Error, "meson.build is in QEMU, too: change it by a patch"):
            qemu.lay()

    def test_no_archive(self) -> None:
        """The error says where an archive of one's own can go."""
        self.archive.unlink()
        with mock.patch.object(debian, "download_source", side_effect=Error("404")) as download, \
                self.assertRaisesRegex(Error, f"if you have {self.archive.name.replace('+', '.')}, "
                                              f"put it into {self.out}\n404"):
            qemu.lay()
        download.assert_called_once_with("qemu", "1:10.2.2+ds-1", qemu.SUITE, self.out)

    def test_not_to_be_had(self) -> None:
        """A machine that needs this QEMU cannot boot, with the reason, and the others do."""
        self.archive.unlink()
        with mock.patch.object(debian, "download_source", side_effect=Error("404")), \
                self.assertRaisesRegex(debian.Unavailable, "404"):
            qemu.directory("x86_64")


class Libraries(Qemu):
    def test_unpacked(self) -> None:
        """Once, and again if other packages are asked for."""
        root = self.top / "root"

        def unpack(packages: list[str], _suites: list[str], fresh: Path, _arch: str) -> None:
            fresh.mkdir(exist_ok=True)
            (fresh / packages[-1]).touch()

        with mock.patch.object(debian, "unpack", side_effect=unpack) as done:
            for packages, times in (["libfdt-dev"], 1), (["libfdt-dev"], 1), (["zlib1g-dev"], 2):
                self.assertEqual(qemu.unpacked(packages, "unstable", root, "arm64"), root)
                self.assertEqual(done.call_count, times)
        self.assertTrue((root / "zlib1g-dev").exists())
        self.assertFalse((root / "libfdt-dev").exists())

    def test_renderer(self) -> None:
        """A renderer that changes is compiled again, and QEMU linked with it."""
        root, program = self.top / "root", self.out / "x86_64/build/qemu-system-x86_64"
        (root / "usr/lib").mkdir(parents=True)
        self.write(self.top / "renderer/renderer.c", "int renderer;\n")
        with mock.patch.object(qemu, "RENDERER", self.top / "renderer"):
            for linked in False, True:
                self.write(program, "")
                out = qemu.renderer("x86_64", root, ["gcc"])
                self.assertEqual(program.exists(), linked)
            self.assertIn("Libs: -lrenderer\n", (out / "virglrenderer.pc").read_text())
            later = os.stat(root / "usr/lib/librenderer.a").st_mtime + 10
            os.utime(self.top / "renderer/renderer.c", (later, later))
            qemu.renderer("x86_64", root, ["gcc"])
        self.assertFalse(program.exists())


if __name__ == "__main__":
    unittest.main()
