# SPDX-License-Identifier: GPL-2.0-only
"""When the plugin has the model do what, in place of QEMU; and what a QEMU says that cannot have
it."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import build
import debian
from settings import REPO
from test_cache import LINE, PAGE, SIZE, library
from test_cache_decode import assembled

QEMU = "qemu-system-x86_64"
RAX, GS, PAR = 0, 17, 18
# Where a CPU sees RAM (cache_qemu.c)
OFFSET = 0x40000000
# Of an instruction, in the memory of QEMU
CODE = 0x7f0000001000
SOURCES = [REPO / name for name in build.PLUGIN_SOURCES]


class Plugin(unittest.TestCase):
    top: Path
    built: Path
    code: dict[str, bytes]

    @classmethod
    def setUpClass(cls) -> None:
        cls.top = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        names = ("clflush (%rax)", "clflushopt (%rax)", "clwb (%rax)", "clwb %gs:(%eax)",
                 "wbinvd", "sfence", "lock incl (%rax)", "xchg %rcx, (%rax)", "vmrun", "nop")
        cls.built = library(cls.top, Path(__file__).parent / "cache_qemu.c", *SOURCES)
        cls.code = dict(zip(names, assembled("x86_64", cls.top, *names)))
        others = ("at s12e1r, x0", "at s1e1r, x0", "mrs x0, par_el1", "dc cisw, x0", "dsb sy")
        cls.code.update(zip(others, assembled("arm64", cls.top, *others)))

    def setUp(self) -> None:
        self.memory = os.memfd_create("memory")
        self.addCleanup(os.close, self.memory)
        os.truncate(self.memory, 4 * SIZE)
        self.ram = mmap.mmap(self.memory, SIZE)
        self.dram = mmap.mmap(self.memory, SIZE, offset=SIZE)
        # Behind the locks (model.c)
        self.types = mmap.mmap(self.memory, PAGE, offset=3 * SIZE + (1 << 18))
        # Another library for each test, because the plugin is installed once.
        with tempfile.TemporaryDirectory(dir=self.top) as directory:
            self.library = ctypes.CDLL(shutil.copy(self.built, directory))
        self.assertEqual(self.install("x86_64", f"memory=/proc/self/fd/{self.memory}"), 0)
        for cpu in range(2):
            self.at(OFFSET, cpu)

    def install(self, target: str, argument: str | None) -> int:
        self.argument = ctypes.create_string_buffer(argument.encode()) if argument else None
        return int(self.library.install(target.encode(), self.argument))

    def at(self, address: int, cpu: int = 0, register: int = RAX) -> None:
        self.library.set_register(cpu, register, ctypes.c_uint64(address))

    def execute(self, name: str, cpu: int = 0, where: int = CODE) -> int:
        """How often the plugin was called"""
        code = self.code[name]
        return int(self.library.execute(cpu, code, ctypes.c_size_t(len(code)), ctypes.c_uint64(0),
                                        ctypes.c_void_p(where)))

    def store(self, *lines: int) -> None:
        for line in lines:
            self.ram[line * LINE] = 1

    def seen(self) -> list[int]:
        """The lines that were written back"""
        return [line for line in range(SIZE // LINE) if self.dram[line * LINE]]

    def test_install(self) -> None:
        for target, argument in (("riscv64", "memory=/dev/null"), ("x86_64", None),
                                 ("x86_64", "file=/dev/null"), ("x86_64", "memory=/dev/null"),
                                 ("x86_64", "memory=/nonexistent")):
            self.assertEqual(self.install(target, argument), 1)

    def test_others_cost_nothing(self) -> None:
        for name in ("nop", "sfence", "lock incl (%rax)", "xchg %rcx, (%rax)"):
            self.assertEqual(self.execute(name), 0)

    def test_at_once(self) -> None:
        self.store(0, 1)
        self.execute("clflush (%rax)")
        self.assertEqual(self.seen(), [0])
        self.at(OFFSET + LINE + 5)
        self.execute("clflush (%rax)")
        self.assertEqual(self.seen(), [0, 1])

    def test_fences(self) -> None:
        """Until then, the others do nothing; and nothing at a fence of another CPU's."""
        done: list[int] = []
        for name in ("clflushopt (%rax)", "clwb (%rax)"):
            for fence in ("sfence", "lock incl (%rax)", "xchg %rcx, (%rax)"):
                lines = [3 * len(done), 3 * len(done) + 1]
                self.store(*lines)
                for line in lines:
                    self.at(OFFSET + line * LINE)
                    self.execute(name)
                self.assertEqual(self.execute(fence, cpu=1), 0)
                self.assertEqual(self.seen(), done)
                self.assertEqual(self.execute(fence), 1)
                done += lines
                self.assertEqual(self.seen(), done)
                self.assertEqual(self.execute(fence), 0)

    def test_many_ranges(self) -> None:
        """What is too much to remember need not wait."""
        for line in range(0, 1000, 2):
            self.store(line)
            self.at(OFFSET + line * LINE)
            self.execute("clwb (%rax)")
        self.execute("sfence")
        self.assertEqual(self.seen(), list(range(0, 1000, 2)))

    def test_addresses(self) -> None:
        self.store(3)
        self.at(0xabcd00000000 + LINE)
        self.at(OFFSET + 2 * LINE, register=GS)
        self.execute("clwb %gs:(%eax)")
        self.execute("sfence")
        self.assertEqual(self.seen(), [3])

    def report(self) -> str:
        """What the plugin writes to QEMU's log when that ends."""
        with tempfile.TemporaryFile(dir=self.top) as log:
            stderr = os.dup(2)
            os.dup2(log.fileno(), 2)
            try:
                self.library.finish()
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
            log.seek(0)
            return log.read().decode()

    def test_not_ram(self) -> None:
        for address in (0, OFFSET - LINE, OFFSET + SIZE, 2**64 - 1):
            self.at(address)
            self.execute("clflush (%rax)")
            self.execute("clwb (%rax)")
            self.execute("sfence")
        self.assertEqual(self.seen(), [])
        self.assertEqual(self.report(),
                         "cache: 8 lines, 8 not in RAM; ignored 0 in guests, 0 by set\n")

    def test_all(self) -> None:
        self.store(5, 500, SIZE // LINE - 1)
        self.execute("wbinvd")
        self.assertEqual(self.seen(), [5, 500, SIZE // LINE - 1])

    def test_guests(self) -> None:
        """What they do is ignored, until the instruction after the entry, wherever it is mapped."""
        after = CODE + len(self.code["vmrun"])
        self.store(0, 1)
        self.execute("vmrun")
        for name in ("clflush (%rax)", "wbinvd", "clwb (%rax)", "nop", "sfence"):
            self.execute(name, where=CODE + PAGE)
        # A hypervisor in the guest enters guests, too, and returns.
        self.execute("vmrun", where=CODE + PAGE)
        self.execute("nop", where=after + PAGE)
        self.execute("clflush (%rax)")
        self.assertEqual(self.seen(), [])
        self.at(OFFSET + LINE, cpu=1)
        self.execute("clflush (%rax)", cpu=1)
        self.assertEqual(self.seen(), [1])
        self.execute("nop", where=after)
        self.execute("clflush (%rax)")
        self.assertEqual(self.seen(), [0, 1])
        self.assertEqual(self.report(),
                         "cache: 2 lines, 0 not in RAM; ignored 4 in guests, 0 by set\n")

    def test_by_set(self) -> None:
        """Nobody can tell which lines that is."""
        self.assertEqual(self.install("aarch64", f"memory=/proc/self/fd/{self.memory}"), 0)
        self.store(0)
        self.execute("dc cisw, x0")
        self.execute("dsb sy")
        self.assertEqual(self.seen(), [])
        self.assertEqual(self.report(),
                         "cache: 0 lines, 0 not in RAM; ignored 0 in guests, 1 by set\n")

    def test_types(self) -> None:
        """What the MMU says of a guest's page, if it walked both stages"""
        self.assertEqual(self.install("aarch64", f"memory=/proc/self/fd/{self.memory}"), 0)
        self.store(0)
        for walk, par, uncached in (
                ("at s12e1r, x0", 0x44 << 56 | OFFSET | 1, 0),
                ("at s12e1r, x0", 0xff << 56 | OFFSET, 0),
                ("at s12e1r, x0", 0x44 << 56 | OFFSET + SIZE, 0),
                ("at s12e1r, x0", 0x44 << 56, 0),
                ("at s1e1r, x0", 0x44 << 56 | OFFSET, 0),
                ("at s12e1r, x0", 0x44 << 56 | OFFSET | 0xb80, 1),
                ("at s1e1r, x0", 0xff << 56 | OFFSET, 1),
                ("at s12e1r, x0", 0xff << 56 | OFFSET, 0)):
            with self.subTest(walk, par=hex(par)):
                self.at(par, register=PAR)
                self.execute(walk)
                self.execute("mrs x0, par_el1")
                self.assertEqual(self.types[0], uncached)
                # What else it has is another one's.
                self.at((0xff if uncached else 0x44) << 56 | OFFSET, register=PAR)
                self.execute("mrs x0, par_el1")
                self.assertEqual(self.types[0], uncached)


class Version(unittest.TestCase):
    @unittest.skipUnless(shutil.which(QEMU) and debian.qemu_major(Path(QEMU)) < 11,
                         "no QEMU older than 11 is installed")
    def test_other_version(self) -> None:
        with tempfile.TemporaryDirectory() as top:
            plugin = library(Path(top), *SOURCES)
            done = subprocess.run([QEMU, "-M", "none", "-plugin", f"file={plugin}"], text=True,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("requires API version 7", done.stderr)


if __name__ == "__main__":
    unittest.main()
