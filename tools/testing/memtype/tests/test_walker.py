# SPDX-License-Identifier: GPL-2.0-only
"""Bochs's trace against what a program says of its accesses, on a recorded trace and mutations.

logs/walker.log is from a KVM guest that reads and writes one page: as WB with the guest's choice
ignored, as WC, as UC, as UC on a 2M page, and as WB with a timer interrupt of the host before the
access, most of whose trace is left out.
"""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import emulator
import judge
import tables
import machine
import walker
from console import Log
from results import BOOT, CRASH, FAIL, NOT_RUN, PASS, TIMEOUT, End, Result
from settings import TREES
from tables import Test

TRACE = (Path(__file__).parent / "logs/walker.log").read_text()
FIRST, SECOND = "kvm/a", "kvm/b"
PROBES = {
    FIRST: ["row=4K WB, ignored gva=0xc0001000 mt=6 ipat=1 type=WB",
            "row=4K WC gva=0xc0001000 mt=6 ipat=0 type=WC",
            "row=4K UC gva=0xc0001000 mt=6 ipat=0 type=UC"],
    SECOND: ["row=2M UC gva=0xc0400000 mt=6 ipat=0 type=UC",
             "row=interrupt gva=0xc0001000 mt=6 ipat=1 type=WB"],
}


def probed(old: str = "", new: str = "") -> list[str]:
    """The console of the programs, with `old` replaced by `new`."""
    lines = ["Linux version 6.12", "memtype> boot"]
    for suite, probes in PROBES.items():
        lines += [f"memtype> start {suite}", "memtype| TAP version 13", "memtype| 1..1",
                  *(f"memtype| # memtype-probe: {probe}" for probe in probes),
                  "memtype| ok 1 good", f"memtype> end {suite} exit=0"]
    text = "\n".join(f"[    1.000000] {line}" for line in [*lines, "memtype> done"])
    assert old in text
    return text.replace(old, new).splitlines()


class Walker(unittest.TestCase):
    def judge(self, lines: list[str], trace: str | None = TRACE,
              end: End | None = None) -> dict[tuple[str, str], Result]:
        one = judge.Judge("m", judge.kunit_parser(TREES["patched"]), Log(lines), end, trace=trace)
        return {(result.suite, result.test): result
                for result in one.judge([Test(suite, ["m"]) for suite in PROBES])}

    def failures(self, lines: list[str], trace: str = TRACE) -> dict[tuple[str, str], str]:
        return {name: result.reason for name, result in self.judge(lines, trace).items()
                if result.status != PASS}

    def test_pass(self) -> None:
        results = self.judge(probed())
        self.assertEqual({result.status for result in results.values()}, {PASS})
        self.assertEqual(list(results), [
            (BOOT, "power-off"), (FIRST, "good"), (SECOND, "good"),
            (FIRST, "Bochs walker: 4K WB, ignored"), (FIRST, "Bochs walker: 4K WC"),
            (FIRST, "Bochs walker: 4K UC"), (SECOND, "Bochs walker: 2M UC"),
            (SECOND, "Bochs walker: interrupt")])
        self.assertEqual({result.row for result in results.values()}, {BOOT, FIRST, SECOND})

    def test_other_emulators(self) -> None:
        results = self.judge(probed(), None)
        self.assertEqual(list(results), [(BOOT, "power-off"), (FIRST, "good"), (SECOND, "good")])

    def test_wrong_expectation(self) -> None:
        for old, new, reason in (
                ("ipat=0 type=WC", "ipat=1 type=WC",
                 "EPT leaf has MT=6 IPAT=0, expected MT=6 IPAT=1"),
                ("mt=6 ipat=0 type=WC", "mt=0 ipat=0 type=WC",
                 "EPT leaf has MT=6 IPAT=0, expected MT=0 IPAT=0"),
                ("type=WC", "type=WT", "the guest's own type is WC, expected WT"),
                ("gva=0xc0001000 mt=6 ipat=0 type=WC", "gva=0xc0001008 mt=6 ipat=0 type=WC",
                 "the trace has no access to 0xc0001008 in this bracket")):
            with self.subTest(new):
                self.assertEqual(self.failures(probed(old, new)),
                                 {(FIRST, "Bochs walker: 4K WC"): reason})

    def test_shadow_paging(self) -> None:
        """There is no EPT, and the type is that of the access."""
        shadow = probed(" mt=6 ipat=0 type=WC", " type=WC")
        trace = "\n".join(line for line in TRACE.splitlines() if "EPT" not in line)
        self.assertNotIn((FIRST, "Bochs walker: 4K WC"), self.failures(shadow, trace))
        self.assertEqual(self.failures(probed(" mt=6 ipat=0 type=WC", " type=WB"), TRACE),
                         {(FIRST, "Bochs walker: 4K WC"): "the type is WC, expected WB"})

    def test_wrong_leaf(self) -> None:
        """Other bits in the EPT entry itself, of a 4K page and of a 2M one."""
        for old, new, name, reason in (
                ("0x86000000 0x3FFA9B37", "0x86000000 0x3FFA9B77", (FIRST, "4K WC"),
                 "EPT leaf has MT=6 IPAT=1, expected MT=6 IPAT=0"),
                ("0x86000000 0x00200BB7", "0x86000000 0x00200B87", (SECOND, "2M UC"),
                 "EPT leaf has MT=0 IPAT=0, expected MT=6 IPAT=0")):
            with self.subTest(new):
                self.assertIn(old, TRACE)
                self.assertEqual(self.failures(probed(), TRACE.replace(old, new)),
                                 {(name[0], f"Bochs walker: {name[1]}"): reason})

    def test_access_without_walk(self) -> None:
        """The TLB had it: the last walk is that of a page table, or there is none."""
        end = "the trace has no EPT walk for the access to 0xc0001000"
        lines = TRACE.splitlines()
        access = next(number for number, line in enumerate(lines) if ", WC)" in line)
        start = max(number for number, line in enumerate(lines[:access]) if walker.START in line)
        for first in (access - 1, start + 1):
            trace = "\n".join(lines[:first] + lines[access:])
            self.assertEqual(self.failures(probed(), trace),
                             {(FIRST, "Bochs walker: 4K WC"): end})

    def test_host_access_to_the_same_address(self) -> None:
        """A process of the host may use the address too: no EPT translates that."""
        host = "[CPU0 RD]: LIN 0x00000000c0001000 PHY 0x000000123000 (len=8, WB): 0x0 0x0\n"
        trace = TRACE.replace("[CPU0 WR]: PHY", f"{host}[CPU0 WR]: PHY", 1)
        self.assertNotEqual(trace, TRACE)
        self.assertEqual(self.failures(probed(), trace), {})

    def test_missing_bracket(self) -> None:
        for trace in (TRACE.replace(walker.START, "", 1), TRACE[:TRACE.rindex(walker.START)]):
            self.check_miscount(probed(), trace, 4, 5)

    def check_miscount(self, lines: list[str], trace: str, brackets: int, probes: int) -> None:
        """If every program is well, nobody can say whose bracket or probe is missing: that is one
        failure, of which all walks are a consequence."""
        results = self.judge(lines, trace)
        cause = results.pop((BOOT, walker.TEST))
        self.assertEqual((cause.status, cause.reason), (
            FAIL, f"the trace has {brackets} brackets, the programs printed {probes} probes"))
        walks = [result for (_, test), result in results.items() if test.startswith(walker.TEST)]
        self.assertEqual([(result.status, result.cause) for result in walks],
                         [(NOT_RUN, cause.name)] * probes)
        self.assertEqual({result.status for result in results.values() if result not in walks},
                         {PASS})

    def test_program_that_dies_in_a_bracket(self) -> None:
        """It is the cause, and what was traced before it counts."""
        lines = probed()
        end = next(number for number, line in enumerate(lines) if f"start {SECOND}" in line)
        trace = TRACE[:TRACE.rindex("(len=8, WB)")]
        for died, cause in ((lines[:end + 2], f"m {SECOND} program"),
                            (probed(f"end {SECOND} exit=0", f"end {SECOND} signal=9"),
                             f"m {SECOND} program")):
            results = self.judge(died, trace if len(died) < len(lines) else trace + walker.START,
                                 End(SECOND, CRASH, "panic"))
            bad = {name: result for name, result in results.items() if result.status != PASS}
            self.assertEqual([result.name for result in bad.values() if not result.cause], [cause])
            self.assertEqual({result.cause for result in bad.values()} - {""},
                             {cause} if len(bad) > 1 else set())
            self.assertEqual([name for name in results if name[0] == FIRST and name not in bad], [
                (FIRST, "good"), (FIRST, "Bochs walker: 4K WB, ignored"),
                (FIRST, "Bochs walker: 4K WC"), (FIRST, "Bochs walker: 4K UC")])

    def test_missing_probe(self) -> None:
        self.check_miscount(probed("# memtype-probe: row=2M", "# row=2M"), TRACE, 5, 4)

    def test_brackets_without_any_probe(self) -> None:
        self.assertEqual(
            self.failures(probed("memtype-probe", "memtype_probe")),
            {(BOOT, "Bochs walker"): "the trace has 5 brackets, the programs printed 0 probes"})

    def test_no_brackets_and_no_probes(self) -> None:
        trace = "".join(TRACE.splitlines(keepends=True)[:3])
        self.assertEqual(self.failures(probed("memtype-probe", "memtype_probe"), trace), {})

    def test_no_trace(self) -> None:
        self.check_miscount(probed(), "", 0, 5)

    def test_trace_that_ends(self) -> None:
        """Wherever the trace is cut off, what it lacks does not pass."""
        ends = [number for number in range(0, len(TRACE), 97)]
        last = TRACE.index("(len=8, WB)", TRACE.rindex("LIN 0x00000000c0001000")) + 12
        for number in [end for end in ends if end < last]:
            self.assertTrue(self.failures(probed(), TRACE[:number]), f"after {number} characters")

    def test_malformed(self) -> None:
        for old, new in (("type=WC", "type=UC-"), ("ipat=0 type=WC", "type=WC"),
                         ("ipat=0 type=WC", "ipat=2 type=WC"), ("type=WC", "type=WC yes"),
                         ("mt=6 ipat=0 type=WC", "mt=WB ipat=0 type=WC"),
                         ("row=4K WC gva=0x", "row=4K WC gva=")):
            with self.subTest(new):
                results = self.judge(probed(old, new))
                self.assertEqual(results.pop((FIRST, "Bochs walker")).status, FAIL)
                self.assertEqual({result.status for result in results.values()}, {PASS})


class Ends(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        bochs = next(item for item in tables.all_machines().values() if item.emulator == "bochs")
        self.boot = machine.Boot(bochs, [Test(FIRST, ["m"])], Path(scratch.name),
                                 lambda suite, what: None)
        self.boot.emulator = mock.Mock()
        self.boot.emulator.process.returncode = 1
        self.boot.emulator.cpu.return_value = 0.0
        self.boot.emulator.waited.return_value = {}
        self.boot.pulse = emulator.Pulse(self.boot.emulator)

    def end(self, trace: str, log: str) -> str:
        """What machine.py says of Bochs's end after all programs ran."""
        self.boot.trace.write_text(trace)
        (self.boot.directory / "bochs.log").write_text(log)
        self.boot.log.done, self.boot.end = True, None
        self.boot.check_exit()
        end: End | None = self.boot.end
        return end.reason if end else ""

    def test_power_off(self) -> None:
        self.assertEqual(self.end(TRACE, f"i[ACPI  ] {machine.BOCHS_POWER_OFF}"), "")

    def test_more_brackets_than_commands(self) -> None:
        self.assertRegex(self.end(f"{TRACE}\nfgets() returned ERROR.\n", ""),
                         "status 1, stopped more often than for 1000 brackets")
        self.assertRegex(self.end(TRACE, ""), "status 1$")

    def test_bracket_without_an_end(self) -> None:
        self.boot.enter(FIRST)
        self.boot.trace.touch()
        os.truncate(self.boot.trace, walker.TRACE_LIMIT)
        self.assertFalse(self.boot.is_over(True))
        os.truncate(self.boot.trace, walker.TRACE_LIMIT + 1)
        self.assertTrue(self.boot.is_over(True))
        self.assertEqual(self.boot.end, End(
            FIRST, TIMEOUT, "the trace of a bracket without an end is over 64 MiB"))


if __name__ == "__main__":
    unittest.main()
