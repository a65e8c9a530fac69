# SPDX-License-Identifier: GPL-2.0-only
"""What every kernel build relies on."""

from __future__ import annotations

import os
import select
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


class Watch(unittest.TestCase):
    def test_interrupted(self) -> None:
        """A build ends with all that it has started, also what its make would leave behind."""
        with tempfile.TemporaryDirectory() as scratch:
            fifo, started = Path(scratch) / "fifo", Path(scratch) / "started"
            os.mkfifo(fifo)
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            self.addCleanup(os.close, reader)

            def say(_text: str) -> None:
                if started.exists():
                    raise KeyboardInterrupt

            with mock.patch.object(build, "PROGRESS", 0.1), mock.patch.object(build, "say", say), \
                    self.assertRaises(KeyboardInterrupt):
                build.watch("build", ["sh", "-c", "sleep 600 >fifo & : >fifo; : >started; wait"],
                            Path(scratch) / "log", {}, Path(scratch))
            # It can be read at its end, which is when nobody has it open for writing.
            self.assertTrue(select.select([reader], [], [], 60)[0])


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
