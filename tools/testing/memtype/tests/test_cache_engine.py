# SPDX-License-Identifier: GPL-2.0-only
"""The device that does not snoop: what it does to the memory that it shares with the model."""

from __future__ import annotations

import mmap
import os
import struct
import time
import unittest
from unittest import mock

import build
from test_vfio_user import (BAR0, COMMAND, CONFIG, DATA_EVENTFD, DMA_MAP, DMA_UNMAP, MASTER, PAGE,
                            RESET, SET_IRQS, TRIGGER, Client)

# Pages of the RAM, which is a quarter of the file
PAGES = 256
MSI = 1
# Registers (engine.h)
SOURCE, TARGET, COUNT, RUN, SNOOP, STALE, DIRTY, FAULTS = range(0x80, 0xc0, 8)
EVICT, ADVERSARY, EVICTIONS, LAST = range(0xc0, 0xe0, 8)
TO_MEMORY, INTERRUPT, REPEAT = 3, 4, 8
BUFFER = 0x40000


class Engine(Client):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        for name in ("ENGINE", "PLUGIN"):
            cls.enterClassContext(mock.patch.object(build, name, cls.scratch / name))
        build.caches()

    def setUp(self) -> None:
        self.connect(build.ENGINE, 4 * PAGES, "{memory}")
        self.agree()
        self.ram = mmap.mmap(self.memory, PAGES * PAGE)
        self.dram = mmap.mmap(self.memory, PAGES * PAGE, offset=PAGES * PAGE)
        self.good(DMA_MAP, self.range(100, 2, offset=5), self.memory)
        self.write(CONFIG, COMMAND, 2, MASTER)

    def transfer(self, address: int, count: int, to_memory: bool) -> int:
        """How many faults it gives"""
        faults = self.read(BAR0, FAULTS, 8)
        self.write(BAR0, SOURCE, 8, BUFFER if to_memory else address)
        self.write(BAR0, TARGET, 8, address if to_memory else BUFFER)
        self.write(BAR0, COUNT, 8, count)
        self.write(BAR0, RUN, 8, TO_MEMORY if to_memory else 1)
        return self.read(BAR0, FAULTS, 8) - faults

    def counts(self) -> tuple[int, int]:
        return self.read(BAR0, STALE, 8), self.read(BAR0, DIRTY, 8)

    def test_dma(self) -> None:
        """By the client's map, to and from what the device sees"""
        self.dram[5 * PAGE:5 * PAGE + 4] = b"dram"
        self.ram[5 * PAGE:5 * PAGE + 4] = b"ram."
        self.assertEqual(self.transfer(100 * PAGE, 4, False), 0)
        self.assertEqual(self.read(BAR0, BUFFER, 4).to_bytes(4, "little"), b"dram")
        self.assertEqual(self.counts(), (1, 0))
        self.write(BAR0, BUFFER, 8, 0x1122334455667788)
        self.assertEqual(self.transfer(101 * PAGE + 1, 8, True), 0)
        self.assertEqual(self.dram[6 * PAGE + 1:6 * PAGE + 9], bytes.fromhex("8877665544332211"))
        self.assertEqual(self.ram[6 * PAGE + 1:6 * PAGE + 9], bytes(8))
        self.assertEqual(self.transfer(100 * PAGE, 8, True), 0)
        self.assertEqual(self.counts(), (1, 1))

    def test_pieces(self) -> None:
        """Across mappings that are somewhere else"""
        self.good(DMA_MAP, self.range(102, 1, offset=2), self.memory)
        self.write(BAR0, BUFFER, 8, 0x1122334455667788)
        self.assertEqual(self.transfer(102 * PAGE - 4, 8, True), 0)
        self.assertEqual(self.dram[7 * PAGE - 4:7 * PAGE], bytes.fromhex("88776655"))
        self.assertEqual(self.dram[2 * PAGE:2 * PAGE + 4], bytes.fromhex("44332211"))

    def test_faults(self) -> None:
        self.good(DMA_MAP, self.range(110, 1, flags=1), self.memory)
        self.good(DMA_MAP, self.range(120, 1))
        self.good(DMA_MAP, self.range(130, 1, offset=PAGES), self.memory)
        other = os.memfd_create("other")
        self.addCleanup(os.close, other)
        os.truncate(other, PAGE)
        self.good(DMA_MAP, self.range(140, 1), other)
        for address, count, to_memory, faults in (
                (99 * PAGE, 8, False, 1), (100 * PAGE - 8, 16, True, 1),
                (102 * PAGE - 8, 16, True, 1), (100 * PAGE, PAGE + 1, False, 1),
                (110 * PAGE, 8, True, 1), (110 * PAGE, 8, False, 0), (120 * PAGE, 8, False, 1),
                (130 * PAGE, 8, True, 1), (140 * PAGE, 8, True, 1), (BUFFER, 8, True, 1),
                (2**64 - 8, 16, False, 1), (100 * PAGE, 8, True, 0)):
            with self.subTest(hex(address), count=count, to_memory=to_memory):
                self.assertEqual(self.transfer(address, count, to_memory), faults)
        self.write(CONFIG, COMMAND, 2, 0)
        self.assertEqual(self.transfer(100 * PAGE, 8, True), 1)

    def test_snooping(self) -> None:
        self.ram[5 * PAGE:5 * PAGE + 4] = b"ram."
        self.write(BAR0, SNOOP, 8, 1)
        self.assertEqual(self.transfer(100 * PAGE, 4, False), 0)
        self.assertEqual(self.read(BAR0, BUFFER, 4).to_bytes(4, "little"), b"ram.")
        self.assertEqual(self.transfer(101 * PAGE, 4, True), 0)
        self.assertEqual(self.ram[6 * PAGE:6 * PAGE + 4], b"ram.")
        self.assertEqual(self.counts(), (0, 0))

    def test_evict(self) -> None:
        self.ram[5 * PAGE:7 * PAGE] = b"1" * 2 * PAGE
        self.write(BAR0, COUNT, 8, PAGE)
        self.write(BAR0, EVICT, 8, 100 * PAGE + 64)
        self.assertEqual(self.dram[5 * PAGE:7 * PAGE],
                         bytes(64) + b"1" * PAGE + bytes(PAGE - 64))
        self.write(BAR0, EVICT, 8, 200 * PAGE)
        self.assertEqual(self.read(BAR0, FAULTS, 8), 1)

    def test_adversary(self) -> None:
        """Of all pages that there were transfers to"""
        self.transfer(101 * PAGE - 8, 16, True)
        self.ram[:] = b"1" * PAGES * PAGE
        self.good(DMA_UNMAP, self.unmap(100, 2))
        self.assertEqual(self.read(BAR0, EVICTIONS, 8), 0)
        self.write(BAR0, ADVERSARY, 8, 1)
        end = time.monotonic() + 60
        while self.dram[5 * PAGE:7 * PAGE] != b"1" * 2 * PAGE:
            self.assertIn(self.dram[6 * PAGE + 8], b"\0001")
            self.assertLess(time.monotonic(), end)
        self.assertGreater(self.read(BAR0, EVICTIONS, 8), 2 * PAGE // 64)
        self.write(BAR0, ADVERSARY, 8, 0)
        self.assertEqual((self.dram[:5 * PAGE], self.dram[7 * PAGE:]),
                         (bytes(5 * PAGE), bytes((PAGES - 7) * PAGE)))

    def test_repeat(self) -> None:
        """It writes until it cannot, and says what it wrote at last."""
        self.write(BAR0, TARGET, 8, 100 * PAGE)
        self.write(BAR0, COUNT, 8, PAGE)
        self.write(BAR0, RUN, 8, REPEAT)
        while self.read(BAR0, LAST, 8) < 3:
            self.assertEqual(self.read(BAR0, RUN, 8), REPEAT)
        self.good(DMA_UNMAP, self.unmap(100, 2))
        while self.read(BAR0, RUN, 8):
            pass
        last = struct.pack("<Q", self.read(BAR0, LAST, 8))
        self.assertEqual(self.dram[5 * PAGE:6 * PAGE], last * (PAGE // 8))
        self.assertEqual(self.read(BAR0, FAULTS, 8), 1)

    def test_repeat_ends(self) -> None:
        self.write(BAR0, TARGET, 8, 100 * PAGE)
        self.write(BAR0, COUNT, 8, PAGE)
        self.write(BAR0, RUN, 8, REPEAT)
        self.write(BAR0, RUN, 8, 0)
        last = self.read(BAR0, LAST, 8)
        self.assertEqual([self.read(BAR0, register, 8) for register in (RUN, LAST, FAULTS)],
                         [0, last, 0])

    def test_interrupt(self) -> None:
        signalled, event = os.pipe2(os.O_NONBLOCK)
        self.addCleanup(os.close, signalled)
        self.addCleanup(os.close, event)
        self.write(BAR0, RUN, 8, INTERRUPT)
        self.good(SET_IRQS, self.set(DATA_EVENTFD | TRIGGER, kind=MSI), event)
        self.write(BAR0, RUN, 8, INTERRUPT)
        self.assertEqual(os.read(signalled, 16), struct.pack("<Q", 1))

    def test_reset(self) -> None:
        self.write(BAR0, SNOOP, 8, 1)
        self.write(BAR0, BUFFER, 8, 1)
        self.write(BAR0, RUN, 8, REPEAT)
        self.good(RESET)
        for register in (SNOOP, RUN, BUFFER):
            self.assertEqual(self.read(BAR0, register, 8), 0)
        self.assertEqual(self.read(CONFIG, COMMAND, 2), 0)

    def test_capabilities(self) -> None:
        """PCI Express, then MSI with 64 bits, then those of virtio"""
        self.assertEqual(self.read(CONFIG, 0, 4), 0x107f1234)
        self.assertEqual(self.read(CONFIG, self.read(CONFIG, 0x34, 1), 2), 0x8010)
        self.assertEqual(self.read(CONFIG, 0x80, 4), 0x0080a005)
        for at, after, length, kind in (0xa0, 0xb0, 16, 1), (0xb0, 0xc0, 16, 3), (0xc0, 0, 20, 2):
            self.assertEqual(self.read(CONFIG, at, 4).to_bytes(4, "little"),
                             bytes((9, after, length, kind)))
            where, size = self.read(CONFIG, at + 8, 4), self.read(CONFIG, at + 12, 4)
            self.write(BAR0, where, 4, 0xffffffff)
            self.assertEqual([self.read(BAR0, where + word, 2) for word in range(0, size, 2)],
                             [int(kind == 1 and word in (18, 24)) for word in range(0, size, 2)])
        self.write(CONFIG, 0x84, 4, 0xfee01234)
        self.assertEqual(self.read(CONFIG, 0x84, 4), 0xfee01234)


if __name__ == "__main__":
    unittest.main()
