# SPDX-License-Identifier: GPL-2.0-only
"""What every kernel build relies on."""

from __future__ import annotations

import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import build
import tables
from settings import ARCHES
from tables import Test


class Initramfs(unittest.TestCase):
    def test_script(self) -> None:
        """A script comes with the program that it is about, and with a shell that runs it."""
        with tempfile.TemporaryDirectory() as scratch, mock.patch.object(build, "output"), \
                mock.patch.object(subprocess, "run"):
            target = Path(scratch) / "initrd"
            build.initramfs(tables.all_machines()["x86-amd"],
                            [Test("s", [], program="kvm/a.sh", args=["-x"]),
                             Test("p", [], program="kvm/b")], target)
            self.assertEqual((target.parent / "tests").read_text(),
                             "s /memtype/sh /memtype/kvm/a.sh -x\np /memtype/kvm/b\n")
            spec = (target.parent / "initramfs.spec").read_text()
        for path in ("kvm/a.sh", "kvm/a", "kvm/b", "busybox"):
            self.assertIn(f"file /memtype/{path} ", spec)
        self.assertIn("slink /memtype/sh busybox ", spec)


class Ccache(unittest.TestCase):
    def test_incbin(self) -> None:
        """A boot image is an object that includes the kernel: another kernel, another object."""
        arch = next(iter(ARCHES))
        rule = "%.o: %.S\n\t$(CC) -Wp,-MMD,$*.d -c -o $@ $<\n"
        with tempfile.TemporaryDirectory() as scratch, \
                mock.patch.dict("os.environ", {"CCACHE_DIR": scratch}):
            top = Path(scratch)
            (top / "piggy.S").write_text('.incbin "kernel"\n')
            # kbuild's make starts another.
            (top / "Makefile").write_text(f"all:\n\t$(MAKE) piggy.o\n{rule}")
            for kernel in "a kernel", "b kernel":
                (top / "kernel").write_text(kernel)
                (top / "piggy.o").unlink(missing_ok=True)
                build.make("piggy", arch, top / "log", "-C", top)
                self.assertIn(kernel.encode(), (top / "piggy.o").read_bytes())

    def test_hits(self) -> None:
        """What was compiled once is not compiled again."""
        arch = next(iter(ARCHES))
        with tempfile.TemporaryDirectory() as scratch, \
                mock.patch.dict("os.environ", {"CCACHE_DIR": scratch}):
            top = Path(scratch)
            (top / "a.c").write_text("int a;\n")
            (top / "Makefile").write_text("a.o: a.c\n\t$(CC) -Wp,-MMD,a.d -c -o $@ $<\n")
            for _ in range(2):
                (top / "a.o").unlink(missing_ok=True)
                build.make("a", arch, top / "log", "-C", top)
            printed = subprocess.run(["ccache", "--print-stats"], check=True, text=True,
                                     stdout=subprocess.PIPE).stdout
            self.assertIn("direct_cache_hit\t1\n", printed)


if __name__ == "__main__":
    unittest.main()
