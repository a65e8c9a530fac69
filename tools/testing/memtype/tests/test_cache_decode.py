# SPDX-License-Identifier: GPL-2.0-only
"""What the plugin takes instructions for, as the assembler has them."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

from settings import ARCHES
from test_cache import CACHE, CLEAN, FLUSH, compiled

OTHER, LINE, LINE_NOW, ALL, SOME, FENCE, ENTER, WALK, WALK_ONE, WALKED = range(10)
NONE = -1
RIP = 0x1000


class Insn(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("op", ctypes.c_int), ("base", ctypes.c_int),
                ("index", ctypes.c_int), ("segment", ctypes.c_int), ("scale", ctypes.c_uint),
                ("narrow", ctypes.c_bool), ("displacement", ctypes.c_int64)]


class Decoder(ctypes.Structure):
    _fields_ = [("target", ctypes.c_char_p), ("ram", ctypes.c_uint64),
                ("registers", ctypes.POINTER(ctypes.c_char_p)),
                ("decode", ctypes.CFUNCTYPE(Insn, ctypes.c_char_p, ctypes.c_size_t,
                                            ctypes.c_uint64))]


def assembled(arch: str, top: Path, *lines: str) -> list[bytes]:
    """The bytes of each of these lines of assembler."""
    source, target = top / "lines.s", top / "lines.o"
    source.write_text("".join(f"1: {line}\n2: .pushsection .sizes\n.byte 2b - 1b\n.popsection\n"
                              for line in lines))
    cross = ARCHES[arch].cross
    subprocess.run([f"{cross}gcc", "-c", "-o", target, source], check=True)
    parts = []
    for section in (".text", ".sizes"):
        subprocess.run([f"{cross}objcopy", "-O", "binary", "-j", section,
                        "--set-section-flags", ".sizes=alloc", target, top / "bytes"], check=True)
        parts.append((top / "bytes").read_bytes())
    code, sizes = parts
    found = []
    for size in sizes[:len(lines)]:
        found.append(code[:size])
        code = code[size:]
    return found


class Decode(unittest.TestCase):
    library: ctypes.CDLL
    top: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.top = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.library = compiled(cls.top, CACHE / "decode_x86.c", CACHE / "decode_arm64.c")

    def decode(self, arch: str, code: bytes) -> tuple[Insn, list[str]]:
        """What it is, and the registers whose sum is the address, the scaled one with its scale."""
        name = arch.removesuffix("_64")
        decoder = Decoder.in_dll(self.library, f"decode_{name}")
        insn = decoder.decode(code, len(code), RIP - len(code))
        found = [decoder.registers[number].decode()
                 + (f"*{insn.scale}" if number == insn.index else "")
                 for number in (insn.segment, insn.base, insn.index) if number != NONE]
        return insn, found

    def kinds(self, arch: str, kind: int, op: int | None, *lines: str) -> None:
        for line, code in zip(lines, assembled(arch, self.top, *lines)):
            with self.subTest(line, code=code.hex()):
                insn, _ = self.decode(arch, code)
                self.assertEqual((insn.kind, insn.op if op is not None else None), (kind, op))

    def test_x86(self) -> None:
        self.kinds("x86_64", LINE_NOW, FLUSH, "clflush (%rax)", "ds clflush (%rax)",
                   "clflush 4(%r13)")
        self.kinds("x86_64", LINE, FLUSH, "clflushopt (%rax)", "ds clflushopt (%r12)",
                   ".byte 0x66; clflush (%rdi)")
        self.kinds("x86_64", LINE, CLEAN, "clwb (%rax)", ".byte 0x66; xsaveopt (%rsi)")
        self.kinds("x86_64", ALL, FLUSH, "wbinvd")
        self.kinds("x86_64", ALL, CLEAN, "wbnoinvd")
        self.kinds("x86_64", FENCE, None, "mfence", "sfence")
        self.kinds("x86_64", FENCE, None, "lock addl $0, -4(%rsp)", "lock cmpxchg %rcx, (%rdi)",
                   ".byte 0x2e; lock btsq $0, (%rbx)", "xchg %al, (%rdi)", "xchg %ax, 8(%rsi)",
                   "xchg %eax, (%r9)", "xchg %r10, 0x20(%rip)", "xchg %rax, %gs:(%rcx)")
        self.kinds("x86_64", ENTER, None, "vmrun")
        self.kinds("x86_64", OTHER, None, "lfence", "xsaveopt (%rsi)", "xsave (%rsi)", "vmmcall",
                   "fxsave (%rax)", "ldmxcsr (%rax)", "tpause %eax", "umonitor %rax", "nop",
                   "rdfsbase %rax", "invlpg (%rax)", "prefetcht0 (%rax)", "vmload", "vmsave",
                   "xrstor (%rax)", "mov %rax, %cr3", "incsspq %rax", "clrssbsy (%rax)",
                   "mov $0x38ae0f, %eax", "swapgs", "stmxcsr (%rax)", "ret",
                   "xchg %al, %bl", "xchg %rcx, %r10", "test %al, (%rdi)", "mov %al, (%rdi)",
                   "xchg %rax, %rdi")

    def test_x86_addresses(self) -> None:
        for line, registers, displacement in (
                ("(%rax)", "rax", 0), ("(%rsp)", "rsp", 0), ("(%r12)", "r12", 0),
                ("(%rbp)", "rbp", 0), ("(%r13)", "r13", 0), ("(%r15)", "r15", 0),
                ("-1(%rdi)", "rdi", -1), ("0x12345678(%r9)", "r9", 0x12345678),
                ("-0x80000000(%rbx)", "rbx", -0x80000000), ("8(%r12)", "r12", 8),
                ("(%rax,%rcx)", "rax rcx*1", 0), ("-64(%rdx,%r8,8)", "rdx r8*8", -64),
                ("0x1000(%r14,%r12,4)", "r14 r12*4", 0x1000), ("(,%rsi,2)", "rsi*2", 0),
                ("(%rbp,%rax)", "rbp rax*1", 0), ("(%r13,%rax)", "r13 rax*1", 0),
                ("0x1234", "", 0x1234), ("0xffffffff80001000", "", -0x7ffff000),
                ("0x20(%rip)", "", RIP + 0x20), ("%fs:(%rax)", "fs_base rax", 0),
                ("%gs:0x40", "gs_base", 0x40), ("%gs:8(%rcx,%rdx)", "gs_base rcx rdx*1", 8),
                ("(%eax)", "rax", 0), ("-8(%r10d,%ecx,2)", "r10 rcx*2", -8)):
            for name in ("clflush", "clflushopt", "clwb"):
                code, = assembled("x86_64", self.top, f"{name} {line}")
                with self.subTest(line, code=code.hex()):
                    insn, found = self.decode("x86_64", code)
                    self.assertIn(insn.kind, (LINE, LINE_NOW))
                    self.assertEqual((found, insn.displacement, insn.narrow),
                                     (registers.split(), displacement, "%e" in line))
                    # With bytes of the next instruction missing there is none.
                    for size in range(len(code)):
                        self.assertNotIn(self.decode("x86_64", code[:size])[0].kind,
                                         (LINE, LINE_NOW))

    def test_arm64(self) -> None:
        self.kinds("arm64", LINE, CLEAN, "dc cvac, x0", "dc cvac, x30",
                   ".arch armv8.5-a; dc cvap, x1", "dc cvadp, x2")
        self.kinds("arm64", LINE, FLUSH, "dc civac, x3", "dc ivac, x4")
        self.kinds("arm64", SOME, None, "dc isw, x0", "dc csw, x1", "dc cisw, x2")
        self.kinds("arm64", FENCE, None, "dsb sy", "dsb ish", "dsb osh", "dsb nsh", "dsb #8",
                   "dsb #12", ".arch armv8.7-a; dsb synxs", "dsb ishnxs")
        self.kinds("arm64", OTHER, None, "dmb sy", "isb", "ssbb", "pssbb",
                   *(f"dsb {domain}{types}" for domain in ("osh", "nsh", "ish", "")
                     for types in ("ld", "st")),
                   "dc cvau, x0", "dc zva, x0", "ic ivau, x0", "ic iallu", "nop", "ret",
                   "tlbi vmalle1is", "clrex", "mrs x0, ctr_el0")

    def test_arm64_walks(self) -> None:
        self.kinds("arm64", WALK, None, "at s12e1r, x0", "at s12e1w, x30")
        self.kinds("arm64", WALK_ONE, None, "at s1e1r, x0", "at s1e1w, x1", "at s1e0r, x2",
                   "at s1e2r, x3", "at s12e0r, x4", ".arch armv8.2-a; at s1e1rp, x5")
        code, = assembled("arm64", self.top, "mrs x7, par_el1")
        insn, found = self.decode("arm64", code)
        self.assertEqual((insn.kind, found), (WALKED, ["PAR_EL1"]))
        self.kinds("arm64", OTHER, None, "msr par_el1, x0", "mrs x0, far_el1")

    def test_arm64_addresses(self) -> None:
        for number in range(31):
            code, = assembled("arm64", self.top, f"dc civac, x{number}")
            insn, found = self.decode("arm64", code)
            self.assertEqual((found, insn.displacement), ([f"x{number}"], 0))
        insn, found = self.decode("arm64", struct.pack("<I", 0xd50b7e3f))
        self.assertEqual((insn.kind, found), (LINE, []))


if __name__ == "__main__":
    unittest.main()
