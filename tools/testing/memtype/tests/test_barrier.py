# SPDX-License-Identifier: GPL-2.0-only
"""The check of the barrier after a VM exit, on recorded and on compiled code, with and without."""

from __future__ import annotations

import re
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import barrier
import build
from settings import TREES

# Linux 6.12.117, gcc 12.
X86 = """
ffffffff81142320 <__srcu_read_lock>:
ffffffff81142320:\tmov    (%rdi),%eax
ffffffff81142322:\tmov    0x8(%rdi),%rdx
ffffffff81142326:\tand    $0x1,%eax
ffffffff81142329:\tmov    %eax,%ecx
ffffffff8114232b:\tincq   %gs:(%rdx,%rcx,8)
ffffffff81142330:\tlock addl $0x0,-0x4(%rsp)
ffffffff81142336:\tret
"""
ARM64 = """
ffff8000800da584 <__srcu_read_lock>:
ffff8000800da5a8:\tldxr\tx5, [x1]
ffff8000800da5ac:\tadd\tx5, x5, x3
ffff8000800da5b0:\tstxr\tw4, x5, [x1]
ffff8000800da5b4:\tcbnz\tw4, ffff8000800da5a8 <__srcu_read_lock+0x24>
ffff8000800da5b8:\tdmb\tish
ffff8000800da5bc:\tret
"""
# The barrier on one side of a branch only.
X86_BRANCH = X86.replace("and    $0x1,%eax", "je     ffffffff81142336 <__srcu_read_lock+0x16>")
ARM64_BRANCH = ARM64.replace("add\tx5, x5, x3", "b.eq\tffff8000800da5bc <__srcu_read_lock+0x38>")

# A kernel of one file: smp_mb() is MB, and the run loop goes from the guest to the handler by LOOP.
SOURCE = """
int idx;
#define smp_mb() asm volatile(MB ::: "memory")
__attribute__((noinline)) int __srcu_read_lock(int *count)
{
    int old = idx & 1;

    count[old]++;
    smp_mb();
    return old;
}
#define MAY_DO __attribute__((noinline)) void
MAY_DO __SCT__kvm_x86_vcpu_run(void) { asm volatile(""); }
MAY_DO __SCT__kvm_x86_handle_exit(int lock) { asm volatile("" :: "r" (lock)); }
asm(".pushsection .altinstr_aux, \\"ax\\"; nop; .popsection");
void kvm_arch_vcpu_ioctl_run(int *count, int fast)
{
    do {
        __SCT__kvm_x86_vcpu_run();
        if (LOOP)
            fast += __srcu_read_lock(count);
        __SCT__kvm_x86_handle_exit(fast);
    } while (fast);
}
"""
MB = '"lock addl $0,-4(%%rsp)"'
# What the kernel's LOCK_PREFIX does.
PATCHED = (r'".pushsection .smp_locks,\"a\"; .balign 4; .long 671f - .; .popsection; 671:"' + MB)


class Recorded(unittest.TestCase):
    def around(self, arch: str, text: str) -> str:
        code = barrier.parse(text)
        return barrier.way_around(code, min(code),
                                  lambda address, text: bool(barrier.FULL[arch].match(text)))

    def test_with(self) -> None:
        self.assertEqual(self.around("x86_64", X86), "")
        self.assertEqual(self.around("x86_64", X86.replace("lock addl $0x0,-0x4(%rsp)", "mfence")),
                         "")
        self.assertEqual(self.around("arm64", ARM64), "")

    def test_without(self) -> None:
        """What else one could take for a barrier: per-CPU increments, and weaker ones."""
        for nothing in ("nop", "sfence", "lfence", "addl $0x0,-0x4(%rsp)"):
            self.assertEqual(
                self.around("x86_64", X86.replace("lock addl $0x0,-0x4(%rsp)", nothing)),
                "ffffffff81142336: ret")
        for nothing in ("nop", "dmb\tishst", "dmb\tishld", "isb"):
            self.assertEqual(self.around("arm64", ARM64.replace("dmb\tish", nothing)),
                             "ffff8000800da5bc: ret")

    def test_one_branch(self) -> None:
        self.assertEqual(self.around("x86_64", X86_BRANCH), "ffffffff81142336: ret")
        self.assertEqual(self.around("arm64", ARM64_BRANCH), "ffff8000800da5bc: ret")

    def test_out_of_sight(self) -> None:
        for leaves in ("jmp    ffffffff81000000 <elsewhere>", "jmp    *%rax",
                       "ja     ffffffff81000000 <elsewhere>"):
            self.assertNotEqual(self.around("x86_64", X86.replace("mov    %eax,%ecx", leaves)), "")


class Compiled(unittest.TestCase):
    def problems(self, smp_mb: str = MB, loop: str = "1", config: str = "CONFIG_SMP=y\n",
                 source: str = SOURCE) -> list[str]:
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / ".config").write_text(config)
            subprocess.run(["gcc", "-x", "c", "-O2", "-nostdlib", "-static", "-fcf-protection=none",
                            f"-DMB={smp_mb}", f"-DLOOP={loop}", "-Wl,-e0",
                            "-o", Path(scratch) / "vmlinux", "-"],
                           input=source, text=True, check=True)
            with mock.patch.object(build, "objects", lambda arch: Path(scratch)):
                return barrier.exit_barrier("x86_64")

    def test_good(self) -> None:
        self.assertEqual(self.problems(), [])

    def test_compiler_barrier(self) -> None:
        problem, = self.problems(smp_mb='""')
        self.assertIn("__srcu_read_lock has a path without a full barrier, to", problem)

    def test_taken_away_on_one_cpu(self) -> None:
        problem, = self.problems(smp_mb=PATCHED)
        self.assertIn("__srcu_read_lock has a path without a full barrier, to", problem)

    def test_run_loop(self) -> None:
        for loop in ("0", "fast"):
            with self.subTest(loop):
                problem, = self.problems(loop=loop)
                self.assertRegex(problem, "from the guest without __srcu_read_lock, to")

    def test_nothing_to_see(self) -> None:
        problem, = self.problems(source=SOURCE.replace("handle_exit", "elsewhere"))
        self.assertIn("no run loop", problem)

    def test_configuration(self) -> None:
        first, second = self.problems(config="CONFIG_JUMP_LABEL=y\n")
        self.assertIn("CONFIG_SMP", first)
        self.assertIn("CONFIG_JUMP_LABEL", second)


class OneCpu(unittest.TestCase):
    """A kernel without CONFIG_SMP, in which smp_mb() and what is made of it are no instruction."""

    def helper(self, smp: int) -> str:
        """The instructions that the kernel's own helper is then."""
        header = (TREES["patched"] / "include/linux/kvm_memtype.h").read_text()
        function, = re.findall(r"^static inline void kvm_memtype_exit_barrier\(void\)\n{.*?^}\n",
                               header, re.M | re.S)
        return subprocess.run(
            ["gcc", "-x", "c", "-O2", "-S", "-o", "-", f"-DIS_ENABLED(option)={smp}",
             "-Dsmp_mb__after_srcu_read_lock()=((void)0)", '-Dmb()=asm volatile("mfence")', "-"],
            input=f"{function}void after_exit(void) {{ kvm_memtype_exit_barrier(); }}", text=True,
            stdout=subprocess.PIPE, check=True).stdout

    def test_helper(self) -> None:
        self.assertIn("mfence", self.helper(smp=0))
        self.assertNotIn("mfence", self.helper(smp=1))


if __name__ == "__main__":
    unittest.main()
