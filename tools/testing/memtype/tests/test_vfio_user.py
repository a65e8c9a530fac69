# SPDX-License-Identifier: GPL-2.0-only
"""The server of vfio-user and its device, whose client is this test: what it answers to good
messages and to bad ones."""

from __future__ import annotations

import array
import errno
import os
import resource
import socket
import struct
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import build
import emulator

VERSION, DMA_MAP, DMA_UNMAP, DEVICE_INFO, REGION_INFO = 1, 2, 3, 4, 5
IRQ_INFO, SET_IRQS, READ, WRITE, RESET = 7, 8, 9, 10, 13
REPLY, NO_REPLY, ERROR = 1, 0x10, 0x20
HEADER = struct.Struct("<HHIII")
# VFIO's numbers
BAR0, CONFIG, ERR_IRQ = 0, 7, 3
DATA_NONE, DATA_BOOL, DATA_EVENTFD, MASK, TRIGGER = 1, 2, 4, 8, 32
PAGE = 4096
# Of config space, and of the device's registers (no_snoop.h)
COMMAND, MASTER, DEVCTL, NO_SNOOP, FLR = 4, 4, 0x48, 0x800, 0x8000
BAR_DEVCTL, BAR_RESETS, BAR_ALLOWED = 0, 4, 8


class Client(unittest.TestCase):
    """Of a server that runs a program with arguments"""
    scratch: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.scratch = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))

    def connect(self, program: Path, pages: int, *args: str) -> None:
        """To a new process; and makes memory that it can map."""
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.memory = os.memfd_create("memory")
        self.addCleanup(os.close, self.memory)
        os.truncate(self.memory, pages * PAGE)
        args = tuple(arg.format(memory=f"/proc/{os.getpid()}/fd/{self.memory}") for arg in args)
        self.process = self.enterContext(emulator.device(program, self.top / "socket", *args))
        self.client = self.enterContext(socket.socket(socket.AF_UNIX))
        self.client.connect(str(self.top / "socket"))
        self.number = 0

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.client.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def send(self, command: int, body: bytes = b"", *fds: int, flags: int = 0) -> None:
        self.number = (self.number + 1) % 0x10000
        header = HEADER.pack(self.number, command, HEADER.size + len(body), flags, 0)
        self.client.sendmsg([header + body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                               array.array("i", fds))] if fds else [])

    def reply(self) -> tuple[int, bytes]:
        """The error number, or 0, and the body of the next reply."""
        number, _, size, flags, error = HEADER.unpack(self.receive(HEADER.size))
        self.assertEqual(number, self.number)
        self.assertEqual(flags, REPLY | (ERROR if error else 0))
        body = self.receive(size - HEADER.size)
        self.assertFalse(error and body)
        return error, body

    def ask(self, command: int, body: bytes = b"", *fds: int) -> tuple[int, bytes]:
        self.send(command, body, *fds)
        return self.reply()

    def good(self, command: int, body: bytes = b"", *fds: int) -> bytes:
        error, answer = self.ask(command, body, *fds)
        self.assertEqual(error, 0, os.strerror(error))
        return answer

    def bad(self, error: int, command: int, body: bytes = b"", *fds: int) -> None:
        self.assertEqual(self.ask(command, body, *fds), (error, b""))

    def agree(self) -> None:
        self.good(VERSION, struct.pack("<HH", 0, 0) + b"{}\0")

    def read(self, region: int, offset: int, count: int) -> int:
        answer = self.good(READ, struct.pack("<QII", offset, region, count))
        self.assertEqual(answer[:16], struct.pack("<QII", offset, region, count))
        self.assertEqual(len(answer), 16 + count)
        return int.from_bytes(answer[16:], "little")

    def write(self, region: int, offset: int, count: int, value: int) -> None:
        access = struct.pack("<QII", offset, region, count)
        self.assertEqual(self.good(WRITE, access + value.to_bytes(count, "little")), access)

    @staticmethod
    def range(page: int, pages: int, offset: int = 0, flags: int = 3, size: int = 32) -> bytes:
        return struct.pack("<IIQQQ", size, flags, offset * PAGE, page * PAGE, pages * PAGE)

    @staticmethod
    def unmap(page: int, pages: int, size: int = 24, flags: int = 0) -> bytes:
        return struct.pack("<IIQQ", size, flags, page * PAGE, pages * PAGE)

    @staticmethod
    def set(flags: int, data: bytes = b"", start: int = 0, count: int = 1,
            kind: int = ERR_IRQ) -> bytes:
        return struct.pack("<IIIII", 20 + len(data), flags, kind, start, count) + data

    def ended(self) -> int:
        with self.assertRaises((EOFError, ConnectionResetError)):
            self.receive(1)
        return self.process.wait()


class Server(Client):
    """With the device of no_snoop.h"""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.enterClassContext(mock.patch.object(build, "DEVICE", cls.scratch / "device"))
        build.device()

    def setUp(self) -> None:
        self.connect(build.DEVICE, 16)


class Messages(Server):
    def test_version(self) -> None:
        """It comes first, once, and with a version that both know."""
        self.bad(errno.EINVAL, DEVICE_INFO, struct.pack("<IIII", 16, 0, 0, 0))
        self.bad(errno.EINVAL, VERSION, struct.pack("<H", 0))
        self.bad(errno.EINVAL, VERSION, struct.pack("<HH", 0, 0) + b"{}")
        self.bad(errno.EPROTONOSUPPORT, VERSION, struct.pack("<HH", 1, 0))
        answer = self.good(VERSION, struct.pack("<HH", 0, 7) + b"{}\0")
        self.assertEqual(answer, struct.pack("<HH", 0, 0)
                         + b'{"capabilities":{"max_msg_fds":1}}\0')
        self.bad(errno.EINVAL, VERSION, struct.pack("<HH", 0, 0))

    def test_info(self) -> None:
        self.agree()
        self.assertEqual(self.good(DEVICE_INFO, struct.pack("<IIII", 16, 0, 0, 0)),
                         struct.pack("<IIII", 16, 3, 9, 5))
        for region in range(9):
            size = PAGE if region in (BAR0, CONFIG) else 0
            self.assertEqual(
                self.good(REGION_INFO, struct.pack("<IIIIQQ", 32, 0, region, 0, 0, 0)),
                struct.pack("<IIIIQQ", 32, 3 if size else 0, region, 0, size, 0))
        for kind in range(5):
            count = int(kind == ERR_IRQ)
            self.assertEqual(self.good(IRQ_INFO, struct.pack("<IIII", 16, 0, kind, 0)),
                             struct.pack("<IIII", 16, 9 if count else 0, kind, count))
        for command, body in (
                (DEVICE_INFO, struct.pack("<IIII", 12, 0, 0, 0)),
                (DEVICE_INFO, struct.pack("<IIII", 16, 1, 0, 0)),
                (DEVICE_INFO, struct.pack("<III", 16, 0, 0)),
                (REGION_INFO, struct.pack("<IIIIQQ", 31, 0, 0, 0, 0, 0)),
                (REGION_INFO, struct.pack("<IIIIQQ", 32, 0, 9, 0, 0, 0)),
                (REGION_INFO, struct.pack("<IIIIQQ", 32, 0, 0, 0, 1, 0)),
                (IRQ_INFO, struct.pack("<IIII", 15, 0, 0, 0)),
                (IRQ_INFO, struct.pack("<IIII", 16, 0, 5, 0)),
                (IRQ_INFO, struct.pack("<IIII", 16, 0, 0, 1))):
            self.bad(errno.EINVAL, command, body)

    def test_headers(self) -> None:
        self.agree()
        for command in (0, 6, 11, 14, 15, 16, 0xffff):
            self.bad(errno.EOPNOTSUPP, command)
        for flags in (1, 2, ERROR, 0x80000000):
            self.send(RESET, flags=flags)
            self.assertEqual(self.reply(), (errno.EINVAL, b""))
        self.bad(errno.EINVAL, RESET, b"1")
        self.bad(errno.EINVAL, RESET, b"", self.memory)
        self.send(RESET, flags=NO_REPLY)
        self.send(RESET, b"1", flags=NO_REPLY)
        self.good(RESET)

    def test_pieces(self) -> None:
        """A message may arrive in pieces, or with the next one."""
        header = HEADER.pack(1, VERSION, HEADER.size + 4, 0, 0)
        for byte in header + struct.pack("<HH", 0, 0):
            self.client.send(bytes([byte]))
        self.number = 1
        self.assertEqual(self.reply()[0], 0)
        message = HEADER.pack(1, RESET, HEADER.size, 0, 0)
        self.client.send(2 * message)
        self.assertEqual([self.reply()[0] for _ in range(2)], [0, 0])

    def test_end(self) -> None:
        self.agree()
        self.client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.ended(), 0)

    def test_size(self) -> None:
        """After a message of an impossible size nothing can be told apart."""
        for size in (0, HEADER.size - 1, 1 << 20):
            self.client.send(HEADER.pack(1, RESET, size, 0, 0))
            self.ended()
            self.doCleanups()
            self.setUp()


class Dma(Server):
    def setUp(self) -> None:
        super().setUp()
        self.agree()

    def mapped(self) -> set[int]:
        """Those of the first pages that cannot be mapped again"""
        found = set()
        for page in range(20):
            error, _ = self.ask(DMA_MAP, self.range(page, 1))
            self.assertIn(error, (0, errno.EEXIST))
            if error:
                found.add(page)
            else:
                self.good(DMA_UNMAP, self.unmap(page, 1))
        return found

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def test_map(self) -> None:
        before = self.descriptors()
        self.assertEqual(self.good(DMA_MAP, self.range(4, 2, offset=2), self.memory), b"")
        self.good(DMA_MAP, self.range(2, 2, flags=1), self.memory)
        self.good(DMA_MAP, self.range(8, 1 << 32))      # what has no descriptor
        self.assertEqual((self.mapped(), self.descriptors()),
                         ({2, 3, 4, 5, *range(8, 20)}, before))
        for page, pages in ((4, 1), (5, 1), (1, 2), (3, 2), (0, 100), (8, 1)):
            self.bad(errno.EEXIST, DMA_MAP, self.range(page, pages), self.memory)
        self.good(DMA_MAP, self.range(6, 2), self.memory)
        self.assertEqual((self.mapped(), self.descriptors()), (set(range(2, 20)), before))

    def test_bad_map(self) -> None:
        before = self.descriptors()
        for body in (self.range(0, 0), self.range(0, 1, flags=0), self.range(0, 1, flags=4),
                     self.range(0, 1, size=31), self.range(0, 1)[:-1], self.range(0, 1) + b"1",
                     struct.pack("<IIQQQ", 32, 3, 0, 1, PAGE),
                     struct.pack("<IIQQQ", 32, 3, 0, PAGE, 1),
                     struct.pack("<IIQQQ", 32, 3, 1, PAGE, PAGE),
                     struct.pack("<IIQQQ", 32, 3, 0, 2**64 - PAGE, 2 * PAGE),
                     self.range(0, 17), self.range(0, 1, offset=16), self.range(0, 1, 1 << 51)):
            self.bad(errno.EINVAL, DMA_MAP, body, self.memory)
        self.bad(errno.EINVAL, DMA_MAP, self.range(0, 1), self.memory, self.memory)
        self.bad(errno.EINVAL, DMA_MAP, self.range(0, 1), *[self.memory] * 3)
        read, write = os.pipe()
        self.bad(errno.EINVAL, DMA_MAP, self.range(0, 1), read)
        os.close(read)
        os.close(write)
        self.assertEqual((self.mapped(), self.descriptors()), (set(), before))
        self.good(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 2**64 - PAGE, PAGE), self.memory)

    def test_no_descriptors_left(self) -> None:
        """What has lost its descriptor is not what had none."""
        limits = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (self.descriptors(), limits[1]))
        self.bad(errno.EINVAL, DMA_MAP, self.range(0, 1), self.memory)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, limits)
        self.good(DMA_MAP, self.range(0, 1), self.memory)

    def test_unmap(self) -> None:
        for page in (1, 2, 4):
            self.good(DMA_MAP, self.range(page, 1), self.memory)
        self.good(DMA_MAP, self.range(10, 4), self.memory)
        for body in (self.unmap(11, 1), self.unmap(0, 11), self.unmap(13, 8), self.unmap(0, 0),
                     self.unmap(0, 1, size=23), self.unmap(0, 1, flags=1)):
            self.bad(errno.EINVAL, DMA_UNMAP, body)
        self.assertEqual(self.mapped(), {1, 2, 4, 10, 11, 12, 13})
        for page, pages, left in ((1, 1, {2, 4, 10, 11, 12, 13}), (0, 10, {10, 11, 12, 13}),
                                  (0, 10, {10, 11, 12, 13}), (0, 1 << 51, set())):
            body = self.unmap(page, pages)
            self.assertEqual(self.good(DMA_UNMAP, body), body)
            self.assertEqual(self.mapped(), left)
        self.good(DMA_MAP, self.range(10, 1), self.memory)

    def test_most(self) -> None:
        for page in range(65535):
            self.send(DMA_MAP, self.range(2 * page, 1), flags=NO_REPLY)
        self.bad(errno.ENOSPC, DMA_MAP, self.range(2 * 65535, 1))
        self.good(DMA_UNMAP, self.unmap(0, 1))
        self.good(DMA_MAP, self.range(2 * 65535, 1))


class Interrupts(Server):
    def setUp(self) -> None:
        super().setUp()
        self.agree()
        # What is written to an eventfd comes out of a pipe as it is.
        self.signalled, self.event = os.pipe2(os.O_NONBLOCK)
        self.addCleanup(os.close, self.signalled)
        self.addCleanup(os.close, self.event)

    def signals(self) -> int:
        try:
            return sum(struct.unpack("<Q", os.read(self.signalled, 8)))
        except BlockingIOError:
            return 0

    def test_trigger(self) -> None:
        self.good(SET_IRQS, self.set(DATA_NONE | TRIGGER))      # nobody listens
        self.good(SET_IRQS, self.set(DATA_EVENTFD | TRIGGER), self.event)
        self.assertEqual(self.signals(), 0)
        for body, signals in ((self.set(DATA_NONE | TRIGGER), 1),
                              (self.set(DATA_BOOL | TRIGGER, b"\0"), 0),
                              (self.set(DATA_BOOL | TRIGGER, b"\1"), 1)):
            self.good(SET_IRQS, body)
            self.assertEqual(self.signals(), signals)
        for body in (self.set(DATA_EVENTFD | TRIGGER), self.set(DATA_NONE | TRIGGER, count=0)):
            self.good(SET_IRQS, self.set(DATA_EVENTFD | TRIGGER), self.event)
            self.good(SET_IRQS, body)
            self.good(SET_IRQS, self.set(DATA_NONE | TRIGGER))
            self.assertEqual(self.signals(), 0)

    def test_bad(self) -> None:
        for body in (self.set(DATA_NONE | TRIGGER, count=2), self.set(DATA_NONE | TRIGGER, start=1),
                     self.set(DATA_NONE | TRIGGER, start=2, count=2**32 - 1),
                     self.set(DATA_NONE | TRIGGER, kind=0), self.set(DATA_NONE | TRIGGER, kind=5),
                     self.set(DATA_NONE | MASK), self.set(DATA_NONE), self.set(TRIGGER),
                     self.set(DATA_NONE | DATA_BOOL | TRIGGER), self.set(DATA_NONE | TRIGGER | 64),
                     self.set(DATA_NONE | TRIGGER, b"1"), self.set(DATA_BOOL | TRIGGER),
                     self.set(DATA_BOOL | TRIGGER, b"11"), self.set(DATA_NONE | TRIGGER)[:-1],
                     self.set(DATA_NONE | TRIGGER) + b"1"):
            self.bad(errno.EINVAL, SET_IRQS, body)
        self.bad(errno.EINVAL, SET_IRQS, self.set(DATA_EVENTFD | TRIGGER, count=0), self.event)
        self.bad(errno.EINVAL, SET_IRQS, self.set(DATA_EVENTFD | TRIGGER), self.event, self.event)


class Device(Server):
    def setUp(self) -> None:
        super().setUp()
        self.agree()

    def test_access(self) -> None:
        self.assertEqual(self.read(CONFIG, 0, 4), 0x12101af4)
        self.assertEqual(self.read(CONFIG, 0, PAGE) & 0xffff, 0x1af4)
        self.write(CONFIG, 0, 4, 0)
        self.assertEqual(self.read(CONFIG, 0, 4), 0x12101af4)
        self.write(CONFIG, 0x10, 4, 0xffffffff)
        self.assertEqual(self.read(CONFIG, 0x10, 4), 0xfffff000)
        for offset, region, count in ((PAGE, CONFIG, 1), (PAGE - 1, CONFIG, 2), (0, CONFIG, 0),
                                      (0, CONFIG, PAGE + 1), (2**64 - 1, CONFIG, 2), (0, 1, 1),
                                      (0, 9, 4), (0, 2**32 - 1, 4), (0, BAR0, 1), (2, BAR0, 4),
                                      (0, BAR0, 8)):
            access = struct.pack("<QII", offset, region, count)
            self.bad(errno.EINVAL, READ, access)
            self.bad(errno.EINVAL, WRITE, access + bytes(min(count, PAGE)))
        self.bad(errno.EINVAL, WRITE, struct.pack("<QII", 0, CONFIG, 4) + b"123")
        self.bad(errno.EINVAL, WRITE, struct.pack("<QII", 0, CONFIG, 4) + b"12345")
        self.bad(errno.EINVAL, READ, struct.pack("<QII", 0, CONFIG, 4) + b"1")

    def test_no_snoop(self) -> None:
        """The bit is set after each reset, and the device knows whether it could have used it."""
        def state() -> tuple[int, int, int]:
            devctl = self.read(BAR0, BAR_DEVCTL, 4)
            self.assertEqual(devctl, self.read(CONFIG, DEVCTL, 2))
            return (devctl & NO_SNOOP, self.read(BAR0, BAR_RESETS, 4),
                    self.read(BAR0, BAR_ALLOWED, 4))

        self.assertEqual(state(), (NO_SNOOP, 0, 0))
        self.write(CONFIG, DEVCTL, 2, 0)
        self.write(CONFIG, COMMAND, 2, MASTER)
        self.assertEqual(state(), (0, 0, 0))
        self.write(CONFIG, DEVCTL, 2, FLR | NO_SNOOP)
        self.assertEqual((state(), self.read(CONFIG, COMMAND, 2)), ((NO_SNOOP, 1, 0), 0))
        self.write(CONFIG, DEVCTL + 1, 1, 0)
        self.assertEqual(state(), (0, 1, 0))
        self.good(RESET)
        self.assertEqual(state(), (NO_SNOOP, 2, 0))
        self.write(CONFIG, COMMAND, 2, MASTER)
        self.assertEqual(state(), (NO_SNOOP, 2, 1))
        self.good(RESET)
        self.assertEqual(state(), (NO_SNOOP, 3, 1))
        self.write(BAR0, BAR_ALLOWED, 4, 0)
        self.assertEqual(state(), (NO_SNOOP, 3, 0))
        self.write(CONFIG, DEVCTL, 2, 0)
        self.write(CONFIG, COMMAND, 2, MASTER)
        self.write(CONFIG, DEVCTL + 1, 1, NO_SNOOP >> 8)
        self.assertEqual(state(), (NO_SNOOP, 3, 1))


if __name__ == "__main__":
    unittest.main()
