# SPDX-License-Identifier: GPL-2.0-only
"""How the page walker of Bochs translated the accesses that a test program brackets.

A guest brackets one access with two `xchg %bx,%bx`, where Bochs stops and its debugger turns the
trace of memory accesses on and off again. The host is traced as well, in interrupts and VM exits
inside a bracket, and so are the reads of page tables and their own translation by EPT:

    [CPU0 RD]: PHY 0x000000a87008 (len=8, WB): 0x86000000 0x3FF9FB77	; EPT PTE
    [CPU0 RD]: LIN 0x00000000c0001000 PHY 0x00003ff9f000 (len=8, WB): 0x00000000 0x00000000

An instruction prints its walk and then its access, so the last EPT leaf before the access is the
one that translated it, if it leads to the same physical address; otherwise the TLB did. The type
of the access is the guest's PAT by the MTRRs of the host; Bochs does not fold in that of EPT.
With shadow paging there is no EPT, and the type is that of KVM's entry by the guest's PAT.
"""

from __future__ import annotations

import re

# More brackets than this end Bochs, and are a failure.
BRACKETS = 1000
# A bracket without an end would fill the disk; all those of our tests together are 40 KiB.
TRACE_LIMIT = 64 << 20
# What its debugger is told: it stops before the first instruction, and at every `xchg %bx,%bx`.
COMMANDS = "c\n" + "trace-mem on\nc\ntrace-mem off\nc\n" * BRACKETS
NO_MORE_COMMANDS = "fgets() returned ERROR"
START, END = "Memory-Tracing enabled", "Memory-Tracing disabled"

ACCESS = re.compile(r"\[CPU0 \w+\]: LIN 0x([0-9a-f]+) PHY 0x([0-9a-f]+) \(len=\d+, (\S+)\)")
ENTRY = re.compile(r"\[CPU0 \w+\]: PHY .*: 0x([0-9A-F]{8}) 0x([0-9A-F]{8})\s; EPT (\w+)$")
PAGE_BITS = {"PTE": 12, "PDE": 21, "PDPTE": 30}
ADDRESS = (1 << 52) - 1
LARGE_PAGE = 1 << 7

TEST = "Bochs walker"
ANY_PROBE = re.compile(r"^\s*# memtype-probe:")
PROBE = re.compile(r"^\s*# memtype-probe: row=(?P<row>.+?) gva=0x(?P<gva>[0-9a-f]+)"
                   r"(?: mt=(?P<mt>[0-6]) ipat=(?P<ipat>[01]))? type=(?P<type>WB|WC|WT|WP|UC)$")


def brackets(trace: str) -> list[str]:
    """What is in each bracket, of which the last may lack its end."""
    return [part.split(END)[0] for part in trace.split(START)[1:]]


def check(line: str, bracket: str) -> tuple[str, str]:
    """The test that a probe line stands for, and what is wrong with the walk, if anything."""
    probe = PROBE.match(line)
    if not probe:
        return TEST, f"malformed: {line.strip()}"
    return f"{TEST}: {probe['row']}", check_walk(probe, bracket)


def check_walk(probe: re.Match[str], bracket: str) -> str:
    problem = f"the trace has no access to 0x{probe['gva']} in this bracket"
    leaf, bits = None, 0
    for line in bracket.splitlines():
        entry, access = ENTRY.match(line), ACCESS.match(line)
        if entry:
            value = int(entry[1] + entry[2], 16)
            if entry[3] == "PTE" or value & LARGE_PAGE and entry[3] in PAGE_BITS:
                leaf, bits = value, PAGE_BITS[entry[3]]
        elif access and int(access[1], 16) == int(probe["gva"], 16):
            if probe["mt"] is None:
                return compare_type(probe, access[3])
            if leaf is not None and (leaf & ADDRESS) >> bits == int(access[2], 16) >> bits:
                return compare(probe, leaf, access[3])
            problem = f"the trace has no EPT walk for the access to 0x{probe['gva']}"
    return problem


def compare(probe: re.Match[str], leaf: int, guest_type: str) -> str:
    found = f"MT={leaf >> 3 & 7} IPAT={leaf >> 6 & 1}"
    expected = f"MT={probe['mt']} IPAT={probe['ipat']}"
    if found != expected:
        return f"EPT leaf has {found}, expected {expected}"
    return compare_type(probe, guest_type)


def compare_type(probe: re.Match[str], found: str) -> str:
    whose = "type" if probe["mt"] is None else "guest's own type"
    return "" if found == probe["type"] else f"the {whose} is {found}, expected {probe['type']}"
