# SPDX-License-Identifier: GPL-2.0-only
"""Is a full memory barrier on every path from a VM exit to the host's next look at guest memory?

A guest's write-combining stores may wait in a buffer of the CPU that ran it. After a VM exit, the
run loop of x86 relies on the barrier that srcu_read_lock() has for reasons of its own: there are
SRCU flavours without one. arm64's run loop relies on none, and its srcu_read_lock() must have one
all the same. What counts is not the source but the kernel that was built, so this reads its
instructions.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import build
from settings import ARCHES, output

Code = dict[int, str]       # address → instruction, in their order

# Instructions that order all earlier loads and stores, of any type, before all later ones.
FULL = {name: re.compile(arch.full_barrier) for name, arch in ARCHES.items()}
INSTRUCTION = re.compile(r"^ *([0-9a-f]+):\t(.*?)\s*(?://.*)?$", re.M)
# A branch to an address; `group(1)` is set if it is not conditional.
BRANCH = re.compile(r"(?:bnd |notrack )*(?:(jmp|b)|j[a-z]+(?:,p[nt])?|b\.[a-z]+|cbn?z|tbn?z)"
                    r"\s+(?:.*, *)?([0-9a-f]+) <")
# Where the walk cannot see on: the caller, or a computed branch.
LEAVES = re.compile(r"(?:bnd |notrack )*(?:ret|jmp\s+\*|br\s)")

SRCU_LOCK = "__srcu_read_lock"
# gcc inlines each into the next.
RUN_LOOP = ("vcpu_enter_guest", "vcpu_run", "kvm_arch_vcpu_ioctl_run")
ENTRY = re.compile(r"call .*<__SCT__kvm_x86_vcpu_run>")
# Handles the exit: reads and writes guest memory as it likes.
HANDLER = re.compile(r"call .*<__SCT__kvm_x86_handle_exit>")


def parse(disassembly: str) -> Code:
    return {int(address, 16): text for address, text in INSTRUCTION.findall(disassembly)}


def disassemble(arch: str, path: Path, *names: str) -> Code:
    """These functions, with the parts that the compiler put aside as unlikely."""
    return parse("".join(
        output([f"{ARCHES[arch].cross}objdump", "--no-show-raw-insn", f"--disassemble={symbol}",
                path])
        for name in names for symbol in (name, f"{name}.cold")))


def next_addresses(code: Code, calls: re.Pattern[str]) -> list[int]:
    """Where the code goes on after these calls."""
    addresses = list(code)
    return [after for before, after in zip(addresses, addresses[1:]) if calls.match(code[before])]


def way_around(code: Code, start: int, barrier: Callable[[int, str], bool],
               until: re.Pattern[str] = LEAVES) -> str:
    """The end of a path from `start` without a barrier: an instruction; empty if there is none."""
    following = dict(zip(code, list(code)[1:]))
    todo, seen = [start], set()
    while todo:
        address = todo.pop()
        if address in seen:
            continue
        seen.add(address)
        text = code.get(address, "another function")
        if address in code and barrier(address, text):
            continue
        if address not in code or until.match(text) or LEAVES.match(text):
            return f"{address:x}: {text}"
        branch = BRANCH.match(text)
        if branch:
            todo.append(int(branch[2], 16))
        if not (branch and branch[1]):
            todo.append(following.get(address, -1))
    return ""


def smp_locks(vmlinux: Path) -> set[int]:
    """The addresses of the lock prefixes that a kernel takes away when it boots on one CPU."""
    sections = output(["readelf", "-SW", vmlinux])
    match = re.search(r"\.smp_locks +PROGBITS +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)", sections)
    if not match:
        return set()
    address, offset, size = (int(word, 16) for word in match.groups())
    with vmlinux.open("rb") as file:
        file.seek(offset)
        return {address + 4 * number + distance for number, (distance,)
                in enumerate(struct.iter_unpack("<i", file.read(size)))}


def srcu_lock(arch: str, vmlinux: Path) -> list[str]:
    """What is wrong with the barrier of srcu_read_lock()."""
    code = disassemble(arch, vmlinux, SRCU_LOCK)
    if not code:
        return [f"{vmlinux} has no {SRCU_LOCK}"]
    # Guests run on a kernel that booted on one CPU, too.
    patched = smp_locks(vmlinux)
    around = way_around(code, next(iter(code)), lambda address, text: bool(FULL[arch].match(text))
                        and address not in patched)
    return [f"{SRCU_LOCK} has a path without a full barrier, to {around}"] if around else []


def run_loop(arch: str, vmlinux: Path) -> list[str]:
    """What is wrong with the way of x86's run loop from the guest to the exit's handler."""
    code = disassemble(arch, vmlinux, *RUN_LOOP)
    # Where static_cpu_has() goes to, until its way on is patched in.
    code |= parse(output(["objdump", "-d", "--no-show-raw-insn", "-j", ".altinstr_aux", vmlinux]))
    starts = next_addresses(code, ENTRY)
    if not starts or not next_addresses(code, HANDLER):
        return [f"{vmlinux} has no run loop in {', '.join(RUN_LOOP)}"]
    call = re.compile(rf"call .*<{SRCU_LOCK}>")
    arounds = {way_around(code, start, lambda address, text: bool(call.match(text)), HANDLER)
               for start in starts}
    return [f"the run loop has a path from the guest without {SRCU_LOCK}, to {around}"
            for around in sorted(arounds - {""})]


def exit_barrier(arch: str) -> list[str]:
    """The check of the kernel that was built."""
    out = build.objects(arch)
    config = (out / ".config").read_text().splitlines()
    problems = []
    if "CONFIG_SMP=y" not in config:
        problems.append("without CONFIG_SMP, smp_mb() is no instruction: build it with")
    if "CONFIG_JUMP_LABEL=y" in config:
        problems.append("CONFIG_JUMP_LABEL makes branches that this check does not follow")
    problems += srcu_lock(arch, out / "vmlinux")
    if ARCHES[arch].run_loop:
        problems += run_loop(arch, out / "vmlinux")
    return problems
