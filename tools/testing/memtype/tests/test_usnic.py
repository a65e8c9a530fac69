# SPDX-License-Identifier: GPL-2.0-only
"""usnic's registration of memory, compiled as a program: no machine has such a device."""

from __future__ import annotations

import errno
import subprocess
import tempfile
import unittest
from pathlib import Path

import stubs
from settings import TREES

LINUX = TREES["patched"]
SOURCES = [f"drivers/infiniband/hw/usnic/usnic_{name}" for name in (
    "noncoherent.h", "uiom.c", "uiom.h", "uiom_interval_tree.h")]
LISTS = LINUX / "tools/include"

CLEAN = ["clean", "pages 100 1", "pages 101 1", "pages 124 1", "pages 126 1", "done"]
FLUSH = ["flush", *CLEAN[1:]]
MAP = ["map 10000 100000 2000", "map 12000 124000 1000", "map 13000 126000 1000"]
UNMAP = ["unmap 10000", "unmap 11000", "unmap 12000", "unmap 13000"]
ATTACH = ["attach", "lock", "unlock"]
UNPIN = ["unpin 100", "unpin 101", "unpin 124", "unpin 126"]


class Usnic(unittest.TestCase):
    top: Path

    @classmethod
    def setUpClass(cls) -> None:
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.top = Path(scratch.name)
        stubs.headers(cls.top, SOURCES, but=("linux/list.h", "linux/types.h"))

    def lines(self, fail: str = "", enforces: bool = False, declared: str = "") -> list[str]:
        """What is done to memory while it is registered, and released if that did not fail.

        A virtual function is attached in between.
        """
        flex = "kmalloc_flex(" in (LINUX / SOURCES[1]).read_text()
        subprocess.run(["gcc", "-O1", "-w", "-I", self.top, "-I", LISTS, "-I", LINUX,
                        f'-DFAIL="{fail}"', f"-DENFORCES={int(enforces)}", f"-DFLEX={int(flex)}",
                        f'-DDECLARED="{declared}"', "-o", self.top / "program",
                        Path(__file__).parent / "usnic_uiom.c"], check=True)
        return subprocess.run([self.top / "program"], check=True, text=True,
                              stdout=subprocess.PIPE).stdout.splitlines()

    def test_maintains(self) -> None:
        """A region is cleaned before it is mapped, and flushed between unmap and unpin."""
        self.assertEqual(self.lines(), [
            "pin", *CLEAN, "lock", *MAP, "unlock", "registered", *ATTACH,
            "lock", *UNMAP, "unlock", *FLUSH, *UNPIN, "drop"])

    def test_fails(self) -> None:
        """What was mapped is flushed before it is unpinned; what is not clean is not mapped."""
        end = ["unlock", *FLUSH, *UNPIN, "drop", f"error {errno.ENOMEM}"]
        done: dict[str, list[str]] = {
            "diff": [], "map": [*MAP[:2], *UNMAP], "insert": [*MAP, *UNMAP]}
        for fail, lines in done.items():
            with self.subTest(fail):
                self.assertEqual(self.lines(fail), ["pin", *CLEAN, "lock", *lines, *end])
        self.assertEqual(self.lines("clean"), [
            "pin", *CLEAN, *UNPIN, "drop", f"error {errno.EFAULT}"])

    def test_enforces(self) -> None:
        """Where the IOMMU can make DMA coherent, it is asked to, and nothing is maintained."""
        self.assertEqual(self.lines(enforces=True), [
            "enforce", "pin", "lock", *MAP, "unlock", "registered", *ATTACH,
            "lock", *UNMAP, "unlock", *UNPIN, "drop"])

    def test_declared(self) -> None:
        """Nothing is maintained if the adapter is declared coherent; all functions must be, too."""
        registered = ["pin", "lock", *MAP, "unlock", "registered"]
        released = ["lock", *UNMAP, "unlock", *UNPIN, "drop"]
        self.assertEqual(self.lines(declared="both"), [*registered, *ATTACH, *released])
        self.assertEqual(self.lines(declared="adapter"), [
            *registered, "attach", "detach", *released, f"error {errno.EINVAL}"])
        self.assertEqual(self.lines(declared="function"), self.lines())
        for declared in "", "adapter", "both":
            self.assertEqual(self.lines(enforces=True, declared=declared),
                             self.lines(enforces=True))

    def test_not_pinned(self) -> None:
        """Pages that cannot be noted down do not stay pinned."""
        self.assertEqual(self.lines("chunk"), ["pin", *UNPIN, f"error {errno.ENOMEM}"])

    def test_not_accounted(self) -> None:
        """What could not be registered does not count, and is not pinned."""
        self.assertEqual(self.lines("pin"), ["pin", "pin", *UNPIN[:2], f"error {errno.EFAULT}"])
        for fail in "chunk", "clean", "diff", "map", "insert":
            with self.subTest(fail):
                self.assertNotRegex(" ".join(self.lines(fail)), "accounted")

    def test_unpins_without_the_lock(self) -> None:
        """To unpin a page can sleep."""
        for fail in "", "diff", "map", "insert":
            with self.subTest(fail):
                words = " ".join(line.split()[0] for line in self.lines(fail, enforces=True))
                self.assertNotRegex(words, r"\block (?!.*\bunlock\b.*\bunpin\b).*\bunpin\b")


if __name__ == "__main__":
    unittest.main()
