# SPDX-License-Identifier: GPL-2.0-only
"""The model of caches: what a device sees of what CPUs store, and they of what it writes."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import struct
import subprocess
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path

CACHE = Path(__file__).parent.parent / "cache"
LINE, PAGE, SIZE = 64, 4096, 1 << 20
CLEAN, FLUSH = range(2)


def library(top: Path, *sources: Path) -> Path:
    """C sources as a library."""
    target = top / "library.so"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                    "-I", CACHE, "-o", target, *sources], check=True)
    return target


def compiled(top: Path, *sources: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(library(top, *sources)))


class Model(unittest.TestCase):
    library: ctypes.CDLL

    @classmethod
    def setUpClass(cls) -> None:
        scratch = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.library = compiled(Path(scratch), Path(__file__).parent / "cache_races.c")

    def setUp(self) -> None:
        self.cache = ctypes.create_string_buffer(64)
        self.fd = os.memfd_create("memory")
        self.addCleanup(os.close, self.fd)
        os.truncate(self.fd, 4 * SIZE)
        self.assertEqual(self.open(f"/proc/self/fd/{self.fd}"), 0)
        self.ram = mmap.mmap(self.fd, SIZE)
        self.race(0)

    def open(self, path: str) -> int:
        return int(self.library.cache_open(self.cache, path.encode()))

    def maintain(self, op: int, place: int) -> None:
        self.library.cache_maintain(self.cache, op, ctypes.c_uint64(place))

    def read(self, place: int, size: int) -> tuple[bytes, int]:
        """What the device reads, and of how many lines it is not what CPUs see."""
        data = ctypes.create_string_buffer(size)
        stale = self.library.cache_device_read(self.cache, ctypes.c_uint64(place), data,
                                               ctypes.c_uint64(size))
        return data.raw, stale

    def write(self, place: int, data: bytes) -> int:
        """Of how many lines the device wrote that were dirty."""
        return int(self.library.cache_device_write(self.cache, ctypes.c_uint64(place), data,
                                                   ctypes.c_uint64(len(data))))

    def test_file(self) -> None:
        self.assertEqual(self.open("/nonexistent"), -errno.ENOENT)
        for size in (0, 4 * SIZE - 1, 4 * SIZE - PAGE, PAGE):
            os.truncate(self.fd, size)
            self.assertEqual(self.open(f"/proc/self/fd/{self.fd}"), -errno.EINVAL)

    def test_clean(self) -> None:
        self.ram[:4] = b"1234"
        self.assertEqual(self.read(0, 4), (b"\0" * 4, 1))
        self.maintain(CLEAN, LINE)
        self.assertEqual(self.read(0, 4), (b"\0" * 4, 1))
        self.maintain(CLEAN, LINE - 1)
        self.assertEqual(self.read(0, 4), (b"1234", 0))
        # The line is still there: a CPU does not see what the device writes.
        self.assertEqual(self.write(0, b"56"), 0)
        self.maintain(CLEAN, 0)
        self.assertEqual((self.ram[:4], self.read(0, 4)), (b"1234", (b"5634", 1)))

    def test_flush(self) -> None:
        self.ram[:4] = b"1234"
        self.maintain(FLUSH, 0)
        self.assertEqual(self.read(0, 4), (b"1234", 0))
        self.write(1, b"56")
        self.assertEqual(self.ram[:4], b"1234")
        self.maintain(FLUSH, 0)
        self.assertEqual((self.ram[:4], self.read(0, 4)), (b"1564", (b"1564", 0)))

    def test_eviction(self) -> None:
        """A dirty line that is evicted undoes what the device wrote to any part of it."""
        self.ram[:4] = b"1234"
        self.assertEqual(self.write(8, b"lost"), 1)
        self.maintain(FLUSH, 0)
        self.assertEqual(self.read(0, 12), (b"1234" + bytes(8), 0))
        self.assertEqual(self.ram[:12], b"1234" + bytes(8))

    def uncached(self, place: int, on: bool) -> None:
        self.library.cache_set_uncached(self.cache, ctypes.c_uint64(place), on)

    def test_uncached(self) -> None:
        """What CPUs store past the caches is in memory, and stays there."""
        self.ram[PAGE - 2:PAGE + 2] = b"1234"
        self.uncached(PAGE + 8, True)
        self.assertEqual(self.read(PAGE - 2, 4), (b"\0\x0034", 1))
        self.assertEqual(self.write(PAGE - 2, b"abcd"), 1)
        self.assertEqual(self.ram[PAGE - 2:PAGE + 2], b"12cd")
        self.uncached(PAGE, False)
        self.assertEqual(self.read(PAGE, 2), (b"cd", 0))
        self.ram[PAGE] = 0
        self.uncached(PAGE, False)
        self.assertEqual(self.read(PAGE, 2), (b"cd", 1))

    def test_becomes_uncached(self) -> None:
        """No line hides what the device wrote before, or what a CPU stores afterwards."""
        self.assertEqual(self.write(0, b"1234"), 0)
        self.uncached(0, True)
        self.assertEqual((self.ram[:4], self.read(0, 4)), (b"1234", (b"1234", 0)))
        self.ram[:4] = bytes(4)
        self.uncached(0, False)
        self.assertEqual(self.read(0, 4), (bytes(4), 0))

    def test_same_value(self) -> None:
        """A line that a CPU gave the value that it had looks clean."""
        self.ram[:4] = bytes(4)
        self.assertEqual(self.write(0, b"1234"), 0)
        self.maintain(FLUSH, 0)
        self.assertEqual(self.ram[:4], b"1234")

    def test_lines(self) -> None:
        """What crosses lines is counted by line, and moved as bytes."""
        data = random.Random(1).randbytes(3 * LINE)
        self.ram[LINE // 2:LINE // 2 + len(data)] = data
        self.assertEqual(self.read(LINE // 2, len(data)), (bytes(len(data)), 4))
        self.assertEqual(self.write(LINE // 2, data), 4)
        self.assertEqual(self.read(LINE // 2, len(data)), (data, 0))
        for line in range(4):
            self.maintain(FLUSH, line * LINE)
        self.assertEqual(self.ram[:LINE // 2 + len(data)], bytes(LINE // 2) + data)
        self.assertEqual(self.read(SIZE - 1, 1), (b"\0", 0))

    def test_all_lines(self) -> None:
        """All lines, and no memory is taken for what nobody used."""
        self.ram[5 * PAGE] = 1
        self.ram[SIZE - 1] = 2
        self.write(9 * PAGE, b"3")
        self.library.cache_maintain_all(self.cache, FLUSH)
        self.assertEqual(self.read(5 * PAGE, 1), (b"\1", 0))
        self.assertEqual(self.read(SIZE - 1, 1), (b"\2", 0))
        self.assertEqual(self.ram[9 * PAGE:9 * PAGE + 1], b"3")
        self.assertLessEqual(os.stat(self.fd).st_blocks * 512, 9 * PAGE + 3 * PAGE)

    def race(self, after: int, word: int = 0) -> None:
        """A CPU counts in this word and in the last, before that access of the model's."""
        self.library.races_with(self.cache, after, word)

    def words(self) -> tuple[int, ...]:
        return struct.unpack("<8Q", self.ram[:LINE])

    def test_torn(self) -> None:
        """A line is written back as it was at one time, whenever a CPU stores to it."""
        for access in range(1, 18):
            self.ram[:LINE] = struct.pack("<8Q", *8 * [access])
            self.race(access)
            self.maintain(CLEAN, 0)
            line, _ = self.read(0, LINE)
            first, *_, last = struct.unpack("<8Q", line)
            self.assertEqual(first, last)

    def test_refill(self) -> None:
        """What a CPU stores to a line that is refilled at this moment is not lost, and dirty."""
        # Both reads of the line are over.
        for access in range(17, 25):
            for word in range(7):
                self.race(0)
                self.ram[:LINE] = bytes(LINE)
                self.maintain(FLUSH, 0)
                self.write(0, struct.pack("<8Q", *8 * [100]))
                self.race(access, word)
                self.maintain(FLUSH, 0)
                # To words that were refilled before, and to others
                refilled = access - 17
                wanted = [100] * 8
                wanted[word] = 101 if word < refilled else 1
                wanted[7] = 1
                self.assertEqual(self.words(), tuple(wanted))
                self.maintain(CLEAN, 0)
                self.assertEqual(self.read(0, LINE), (self.ram[:LINE], 0))

    def test_locks(self) -> None:
        """Nobody sees a line that another one is at, in whatever process."""
        works: list[Callable[[], object]] = [
            lambda: self.maintain(CLEAN, 0), lambda: self.read(8, 8), lambda: self.write(0, b"1")]
        for work in works:
            self.race(0)
            self.library.lock_first_line()
            work()
            self.assertEqual(self.library.waited(), 1)


if __name__ == "__main__":
    unittest.main()
