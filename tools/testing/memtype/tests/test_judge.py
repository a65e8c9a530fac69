# SPDX-License-Identifier: GPL-2.0-only
"""From console logs to results: on logs recorded from real boots (logs/), and on their mutations.

The recorded ones come from selftests/memtype/misbehave, see test_boots.py; of the boot itself only
the KUnit part is kept.
"""

from __future__ import annotations

import unittest
from pathlib import Path

import judge
from console import Log
from results import (BOOT, CRASH, FAIL, HANG, KUNIT, NOT_RUN, PASS, PROGRAM, SKIP, TIMEOUT, XFAIL,
                     End, Result)
from settings import TREES
from tables import Test

LOGS = Path(__file__).parent / "logs"
PARSER = judge.kunit_parser(TREES["patched"])
HOST = Test("kvm/memtype_host_test", ["m"], 30)


def way(name: str, **values: object) -> Test:
    return Test(f"memtype/{name}", ["m"], 30, **values)  # type: ignore[arg-type]


class Judged(unittest.TestCase):
    def judge(self, lines: list[str], *tests: Test,
              end: End | None = None) -> dict[tuple[str, str], Result]:
        results = judge.Judge("m", PARSER, Log(lines), end).judge(tests)
        return {(result.suite, result.test): result for result in results}

    def recorded(self, name: str) -> list[str]:
        return (LOGS / f"{name}.log").read_text().splitlines()

    def end_of_pass(self, lines: list[str]) -> int:
        return next(number for number, line in enumerate(lines)
                    if line.endswith("> end memtype/pass exit=0"))

    def one(self, test: Test) -> dict[str, Result]:
        """The results of one suite of the recorded log of all ways."""
        results = self.judge(self.recorded("ways"), test)
        return {name: result for (suite, name), result in results.items() if suite == test.suite}

    def statuses(self, test: Test) -> dict[str, str]:
        return {name: result.status for name, result in self.one(test).items()}

    def test_pass(self) -> None:
        test = way("pass", rows={"a value": {"m": "WB"}})
        self.assertEqual(self.statuses(test), {"good": PASS, "a value": PASS})

    def test_row_not_as_expected(self) -> None:
        result = self.one(way("pass", rows={"a value": {"m": "WC"}}))["a value"]
        self.assertEqual((result.status, result.value, result.expected, result.row),
                         (FAIL, "WB", "WC", "a value"))

    def test_row_that_nobody_expects(self) -> None:
        self.assertEqual(self.statuses(way("pass"))["a value"], FAIL)

    def test_row_that_is_not_printed(self) -> None:
        """It fails for itself, unless something else is wrong with the program."""
        rows = {"another value": {"m": "WB"}}
        result = self.one(way("exit-code", rows=rows))["another value"]
        self.assertEqual((result.status, result.cause),
                         (NOT_RUN, "m memtype/exit-code program"))
        lines = self.recorded("ways")
        result = self.judge(lines, way("noise", rows=rows))["memtype/noise", "another value"]
        self.assertEqual((result.status, result.cause), (FAIL, ""))
        self.assertTrue(result.log)

    def test_skip_does_not_hide_a_row(self) -> None:
        result = self.one(way("skip-all", rows={"a value": {"m": "WB"}}))["a value"]
        self.assertEqual(result.status, FAIL)

    def test_forced(self) -> None:
        lines = [line.replace("forced=no", "forced=yes") for line in self.recorded("ways")]
        test = way("pass", rows={"a value": {"m": "forced"}})
        result = self.judge(lines, test)[test.suite, "a value"]
        self.assertEqual((result.status, result.value), (PASS, "forced"))

    def test_fail(self) -> None:
        self.assertEqual(self.statuses(way("fail")), {"good": PASS, "broken": FAIL})
        self.assertIn("not ok 2 broken", "\n".join(self.one(way("fail"))["broken"].log))

    def test_expected_failure(self) -> None:
        results = self.one(way("fail", fails={"broken": "a reason"}))
        self.assertEqual((results["broken"].status, results["broken"].reason),
                         (XFAIL, "a reason"))
        self.assertEqual(results["good"].status, PASS)
        # Nor does the program fail for its exit code alone.
        self.assertNotIn(PROGRAM, results)

    def test_expected_failure_hides_no_other_exit_code(self) -> None:
        lines = [line.replace("end memtype/fail exit=1", "end memtype/fail exit=2")
                 for line in self.recorded("ways")]
        result = self.judge(lines, way("fail", fails={"broken": "a reason"}))
        self.assertEqual(result["memtype/fail", PROGRAM].reason, "exit code 2")

    def test_expected_skips(self) -> None:
        """A skip is one that the table has, for the reason that it has; and it must be one."""
        name, why = "needs another machine", "needs another machine"
        for skips, statuses in (
                ({name: why}, {"good": PASS, name: SKIP}),
                ({"needs *": "*machine"}, {"good": PASS, name: SKIP}),
                ({name: "no EPT"}, {"good": PASS, name: FAIL}),
                ({}, {"good": PASS, name: FAIL}),
                ({name: why, "good": why}, {"good": FAIL, name: SKIP})):
            with self.subTest(skips):
                results = self.one(way("skip", skips={"m": skips}))
                self.assertEqual({test: result.status for test, result in results.items()},
                                 statuses)
        self.assertEqual(self.one(way("skip", skips={"m": {}}))[name].reason,
                         f"unexpected skip: {why}")
        self.assertEqual(self.statuses(way("skip", skips={"other": {}}))[name], SKIP)

    def test_unexpected_pass(self) -> None:
        result = self.one(way("fail", fails={"good": "a reason"}))["good"]
        self.assertEqual(result.status, FAIL)
        self.assertIn("passes, and tests.toml says that it fails", result.reason)

    def test_skip(self) -> None:
        self.assertEqual(self.statuses(way("skip")), {"good": PASS, "needs another machine": SKIP})
        self.assertEqual(self.one(way("skip"))["needs another machine"].reason,
                         "needs another machine")
        self.assertEqual(self.one(way("skip-all"))[PROGRAM].reason,
                         "nothing to test on this machine")

    def test_skip_without_reason(self) -> None:
        lines = [line.replace("# SKIP needs another machine", "elsewhere # SKIP")
                 for line in self.recorded("ways")]
        results = self.judge(lines, way("skip"))
        self.assertEqual(results["memtype/skip", "elsewhere"].status, FAIL)

    def test_zero_tests(self) -> None:
        self.assertEqual(self.statuses(way("zero")), {PROGRAM: FAIL})

    def test_truncated(self) -> None:
        statuses = self.statuses(way("truncated"))
        self.assertEqual(statuses.pop("good"), PASS)
        self.assertTrue(statuses)
        self.assertNotIn(PASS, statuses.values())

    def test_bail_out(self) -> None:
        """A program that gives up is one failure, with what it says as the reason."""
        lines = self.recorded("ways")
        end = next(number for number, line in enumerate(lines)
                   if line.endswith("end memtype/truncated exit=0"))
        lines[end:end + 1] = ["[    3.000000] memtype| Bail out! no device",
                              "[    3.000000] memtype> end memtype/truncated exit=1"]
        results = self.judge(lines, way("truncated", rows={"a value": {"m": "WB"}}))
        del results[BOOT, "power-off"]
        self.assertEqual({test: (result.status, result.cause)
                          for (_, test), result in results.items()},
                         {"good": (PASS, ""), PROGRAM: (FAIL, ""),
                          "a value": (NOT_RUN, "m memtype/truncated program")})
        self.assertEqual(results["memtype/truncated", PROGRAM].reason, "Bail out! no device")

    def test_exit_code(self) -> None:
        self.assertEqual(self.statuses(way("exit-code")), {"good": PASS, PROGRAM: FAIL})

    def test_killed(self) -> None:
        self.assertEqual(self.statuses(way("killed")), {"good": PASS, PROGRAM: CRASH})

    def test_splat(self) -> None:
        self.assertEqual(self.statuses(way("warn")), {"good": PASS, "kernel log": FAIL})
        log = "\n".join(self.one(way("warn"))["kernel log"].log)
        self.assertIn("lkdtm_WARNING", log)

    def test_every_kind_of_splat(self) -> None:
        for text in ("BUG: KASAN: slab-use-after-free in f+0x1/0x2",
                     "WARNING: possible circular locking dependency detected",
                     "WARNING: suspicious RCU usage", "BUG: sleeping function called from invalid",
                     "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                     "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
                     "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [a:1]",
                     "Oops: general protection fault, 0000 [#1] SMP",
                     "Unable to handle kernel NULL pointer dereference at virtual address 0",
                     "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
                     "WARNING: lock held when returning to user space!",
                     "rcu: rcu_preempt kthread starved for 5252 jiffies!",
                     "unchecked MSR access error: RDMSR from 0x1 at rIP: 0x1 (f+0x1/0x2)",
                     "UBSAN: array-index-out-of-bounds in mm/a.c:1:1"):
            lines = self.after("memtype/pass", f"[    3.000000] {text}")
            with self.subTest(text):
                result = self.judge(lines, way("pass"))["memtype/pass", "kernel log"]
                self.assertEqual((result.status, result.reason), (FAIL, text))

    def after(self, suite: str, *more: str) -> list[str]:
        """The recorded log with lines added behind a start mark."""
        lines = self.recorded("ways")
        at = next(number for number, line in enumerate(lines)
                  if line.endswith(f"memtype> start {suite}"))
        return lines[:at + 1] + list(more) + lines[at + 1:]

    def test_program_text_is_no_splat(self) -> None:
        lines = self.after("memtype/pass", "[    3.000000] memtype| # BUG: WARNING: CPU: 1")
        self.assertNotIn(("memtype/pass", "kernel log"), self.judge(lines, way("pass")))

    def test_panic_that_a_program_prints_is_not_the_machine_s(self) -> None:
        lines = self.after("memtype/pass", "[    3.000000] memtype| # Kernel panic - not syncing")
        results = self.judge(lines, way("pass", rows={"a value": {"m": "WB"}}))
        self.assertEqual({result.status for result in results.values()}, {PASS})

    def test_splat_between_programs(self) -> None:
        lines = self.recorded("ways")
        at = next(number for number, line in enumerate(lines) if "memtype> boot" in line)
        lines.insert(at + 1, "[    3.000000] WARNING: CPU: 0 PID: 1 at mm/a.c:1 f+0x1/0x2")
        self.assertEqual(self.judge(lines, way("pass"))[BOOT, "kernel log"].status, FAIL)

    def test_lost_messages(self) -> None:
        lines = self.after("memtype/pass", "[    3.000000] ** 17 printk messages dropped **")
        self.assertEqual(self.judge(lines, way("pass"))["memtype/pass", "kernel log"].status, FAIL)

    def test_flood(self) -> None:
        statuses = self.statuses(way("flood"))
        self.assertEqual(len(statuses), 200)
        self.assertEqual(set(statuses.values()), {PASS})

    def test_noise(self) -> None:
        results = self.one(way("noise"))
        self.assertEqual([result.status for result in results.values()], [PASS])
        self.assertIn("abcdefghijklmnopqrstuvwxyz" * 50,
                      "".join(Log(self.recorded("ways"))
                              .programs["memtype/noise"].output()))

    def test_panic(self) -> None:
        results = self.judge(self.recorded("panic"), way("panic"), way("pass"),
                             end=End("memtype/panic", CRASH, "Kernel panic"))
        self.assertEqual(results["memtype/panic", "good"].status, PASS)
        self.assertEqual(results["memtype/panic", PROGRAM].status, CRASH)
        self.assertNotIn(("memtype/pass", PROGRAM), results)
        self.assertIn("lkdtm_PANIC", "\n".join(results["memtype/panic", PROGRAM].log))

    def test_second_banner(self) -> None:
        banner = "[    0.000000] Linux version 6.12.117-memtype (memtype@memtype)"
        lines = [banner] + self.after("memtype/pass", banner)
        results = self.judge(lines, way("pass"))
        self.assertEqual(results["memtype/pass", PROGRAM].status, CRASH)
        self.assertIn("rebooted", results["memtype/pass", PROGRAM].reason)

    def test_hang(self) -> None:
        results = self.judge(self.recorded("hang"), way("hang"), way("pass"),
                             end=End("memtype/hang", HANG, "hangs"))
        self.assertEqual(results["memtype/hang", "good"].status, PASS)
        self.assertEqual(results["memtype/hang", PROGRAM].status, HANG)
        self.assertEqual({suite for suite, _ in results}, {BOOT, "memtype/hang"})
        # One cause is one failure: the boot is none.
        self.assertEqual([result.test for result in results.values() if result.status != PASS],
                         [PROGRAM])

    def test_hang_before_any_output(self) -> None:
        lines = self.recorded("hang")
        start = next(number for number, line in enumerate(lines) if "> start" in line)
        results = self.judge(lines[:start + 1], way("hang"),
                             end=End("memtype/hang", TIMEOUT, "over"))
        self.assertEqual(results["memtype/hang", PROGRAM].status, TIMEOUT)
        results = self.judge(lines[:start + 1], way("hang"))
        self.assertEqual(results["memtype/hang", PROGRAM].status, CRASH)

    def test_hang_in_kunit(self) -> None:
        results = self.judge(self.recorded("ways")[:5], KUNIT_TEST,
                             end=End(KUNIT, TIMEOUT, "over"))
        self.assertEqual(results[KUNIT, PROGRAM].status, TIMEOUT)

    def test_console_that_ends(self) -> None:
        """Wherever the log is cut off: the rest is not a pass, and nothing raises."""
        lines = self.recorded("ways")
        text = "\n".join(lines[:self.end_of_pass(lines)])
        for number in range(0, len(text), 101):
            results = self.judge(text[:number].split("\n"), KUNIT_TEST, way("pass"), way("flood"))
            for suite in (BOOT, "memtype/pass"):
                statuses = {result.status for (name, _), result in results.items() if name == suite}
                self.assertNotEqual(statuses, {PASS}, f"{suite} after {number} characters")

    def test_end_mark_that_is_cut_off(self) -> None:
        lines = [line.split(" exit=")[0] for line in self.recorded("ways")]
        self.assertEqual(self.judge(lines, way("pass"))["memtype/pass", PROGRAM].status, CRASH)

    def test_no_console(self) -> None:
        results = self.judge([], KUNIT_TEST, HOST, end=End(BOOT, CRASH, "the emulator died"))
        self.assertEqual(results[BOOT, "boot"].status, CRASH)
        self.assertEqual(list(results), [(BOOT, "boot")])

    def test_boot_over_time(self) -> None:
        results = self.judge([], HOST, end=End(BOOT, TIMEOUT, "over its limit"))
        self.assertEqual(results[BOOT, "boot"].status, TIMEOUT)

    def test_kunit_then_kselftest(self) -> None:
        """Two KTAP streams in one log, each with a header of its own."""
        results = self.judge(self.recorded("ways"), KUNIT_TEST, way("pass"))
        kunit = {name: result.status for (suite, name), result in results.items()
                 if suite == KUNIT}
        self.assertIn("resource.resource_test_union", kunit)
        self.assertEqual(set(kunit.values()), {PASS})
        self.assertEqual(results["memtype/pass", "good"].status, PASS)

    def test_kunit_failure(self) -> None:
        lines = [line.replace(" ok 1 resource_test_union", " not ok 1 resource_test_union")
                 for line in self.recorded("ways")]
        results = self.judge(lines, KUNIT_TEST)
        self.assertEqual(results[KUNIT, "resource.resource_test_union"].status, FAIL)

    def test_kunit_suite_that_fails_by_itself(self) -> None:
        lines = [line.replace("] ok 1 resource", "] not ok 1 resource")
                 for line in self.recorded("ways")]
        self.assertNotEqual(lines, self.recorded("ways"))
        self.assertEqual(self.judge(lines, KUNIT_TEST)[KUNIT, "KTAP"].status, FAIL)

    def test_failure_beyond_the_plan(self) -> None:
        lines = self.recorded("ways")
        lines.insert(self.end_of_pass(lines), "[    3.000000] memtype| not ok 2 extra")
        self.assertEqual(self.judge(lines, way("pass"))["memtype/pass", "KTAP"].status, FAIL)

    def test_skip_with_dots(self) -> None:
        for said in ("ok 2 global.part # SKIP no v1.2 hardware", "ok 2 # SKIP no v1.2 hardware"):
            lines = [line.replace("ok 2 # SKIP needs another machine", said)
                     for line in self.recorded("ways")]
            results = self.judge(lines, way("skip"))
            reasons = {result.reason for result in results.values() if result.status == SKIP}
            self.assertEqual(reasons, {"no v1.2 hardware"})

    def test_malformed_row(self) -> None:
        lines = [line.replace("forced=no", "forced=maybe") for line in self.recorded("ways")]
        self.assertEqual(self.judge(lines, way("pass"))["memtype/pass", "row"].status, FAIL)

    def test_malformed_ktap(self) -> None:
        lines = self.recorded("ways")
        bad = [line.replace("memtype| ok 1 good", "memtype| ok 7 good") for line in lines]
        self.assertEqual(self.judge(bad, way("pass"))["memtype/pass", "KTAP"].status, FAIL)

    def test_program_without_ktap(self) -> None:
        for code, status in ((0, PASS), (1, FAIL), (4, FAIL)):
            lines = [line.replace("end memtype/zero exit=0", f"end memtype/zero exit={code}")
                     for line in self.recorded("ways")]
            results = self.judge(lines, way("zero", ktap=False))
            self.assertEqual(results["memtype/zero", PROGRAM].status, status)
        results = self.judge(self.recorded("ways"), way("skip-all", ktap=False))
        self.assertEqual(results["memtype/skip-all", PROGRAM].status, SKIP)

    def test_parser_exception(self) -> None:
        class Broken:
            @staticmethod
            def parse_run_tests(_: list[str]) -> None:
                raise ValueError("confused")

        one = judge.Judge("m", Broken, Log(self.recorded("ways")))  # type: ignore[arg-type]
        results = {result.test: result for result in one.judge([way("pass")])}
        self.assertEqual(results["KTAP"].status, FAIL)
        self.assertIn("confused", results["KTAP"].reason)


KUNIT_TEST = Test(KUNIT, ["m"], 30)

if __name__ == "__main__":
    unittest.main()
