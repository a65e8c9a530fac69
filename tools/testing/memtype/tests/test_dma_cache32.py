# SPDX-License-Identifier: GPL-2.0-only
"""mm/dma_cache.c compiled for 32 bits: what it does to addresses, and between which fences."""

from __future__ import annotations

import errno
import platform
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import stubs
from settings import TREES


@unittest.skipUnless(platform.machine() == "x86_64", "it runs as a program for 32-bit x86")
class DmaCache(unittest.TestCase):
    top: Path

    @classmethod
    def setUpClass(cls) -> None:
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.top = Path(scratch.name)
        stubs.headers(cls.top, ["mm/dma_cache.c"])

    def lines(self, *ranges: tuple[int, int], op: str = "CLEAN") -> list[str]:
        """What is printed for ranges of page frames, without numbers that are 0 at the end."""
        calls = "".join(f"dma_cache_add(&dc, {pfn}, {npages});" for pfn, npages in ranges)
        subprocess.run(["gcc", "-m32", "-O2", "-ffreestanding", "-nostdlib", "-static", "-fno-pie",
                        "-no-pie", "-fno-stack-protector", "-I", self.top, "-I", TREES["patched"],
                        f"-DCALLS={calls}", f"-DOP=DMA_CACHE_{op}", "-o", self.top / "program",
                        Path(__file__).parent / "dma_cache32.c"], check=True)
        try:
            done = subprocess.run([self.top / "program"], check=True, text=True,
                                  stdout=subprocess.PIPE)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            self.skipTest("this kernel runs no program for 32-bit x86")
        return [re.sub("( 0)*$", "", line) for line in done.stdout.splitlines()]

    def test_above_4g(self) -> None:
        """Memory without a struct page, at 4 GiB and above."""
        for pfn in 0x100000, 0x100abc:
            with self.subTest(hex(pfn)):
                self.assertEqual(self.lines((pfn, 2)), [
                    "fence", "lock", f"memremap {pfn:x}000 2000 1", "lines 0 80000000 80002000",
                    f"pages {pfn:x} 2", "memunmap 80000000", "unlock", "fence", "done 1 2 80",
                    "not", "end"])

    def test_mmio(self) -> None:
        """It is left alone."""
        self.assertEqual(self.lines((0x200100, 2)), [
            "pages 200100 2 6", "resched", "done", "not 2", "end"])

    def test_cannot_be_mapped(self) -> None:
        self.assertEqual(self.lines((0x100f00, 3), op="FLUSH"), [
            "fence", "lock", "memremap 100f00000 3000 1", "pages 100f00 3 e", "unlock", "fence",
            "done 1", "not 0 3 e", "warning 3", "end e"])

    def test_hole(self) -> None:
        """A page without a mapping: an error, unless it is poisoned and flushed; others go out."""
        self.assertEqual(self.lines((0x17f, 3)), [
            "fence", "lines 0 c017f000 c0180000", "pages 17f 1", "pages 180 1 e",
            "lines 0 c0181000 c0182000", "pages 181 1", "fence", "done 1 2 80", "not 0 1 e",
            "end e"])
        self.assertEqual(self.lines((0x1a0, 2), op="FLUSH"), [
            "fence", "lines 1 c01a0000 c01a0000", "pages 1a0 1 85", "lines 1 c01a1000 c01a2000",
            "pages 1a1 1", "fence", "done 1 1 40", "not 1", "end"])
        self.assertEqual(self.lines((0x1a0, 2)), [
            "fence", "lines 0 c01a0000 c01a0000", "pages 1a0 1 85", "lines 0 c01a1000 c01a2000",
            "pages 1a1 1", "fence", "done 1 1 40", "not 0 1 85", "end 85"])

    def test_empty(self) -> None:
        self.assertEqual(self.lines((0x100, 0)), ["done", "not", "end"])

    def test_fences(self) -> None:
        """One pair for 512 pages, however they come, and all lines are between two."""
        for step in 1, 3, 2048:
            for size in 1, 512, 513, 1024:
                with self.subTest(step=step, size=size):
                    printed = self.lines(*((0x200 + at, min(step, size - at))
                                           for at in range(0, size, step)))
                    words = " ".join(line.split()[0] for line in printed)
                    chunks = -(-size // 512)
                    self.assertRegex(words, "^(fence( lines pages)+ fence( resched)? )+done not")
                    self.assertEqual(words.count("fence"), 2 * chunks)
                    self.assertEqual(words.count("resched"), size // 512)
                    self.assertIn(f"done {chunks:x} {size:x} {64 * size:x}", printed)


if __name__ == "__main__":
    unittest.main()
