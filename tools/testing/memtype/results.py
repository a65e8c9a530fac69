# SPDX-License-Identifier: GPL-2.0-only
"""What a test comes to: the words that the runner, its reports and matrix.json share."""

from __future__ import annotations

from dataclasses import dataclass, field

KUNIT = "kunit"         # the suite that the kernel runs itself while it boots
BOOT = "boot"           # the suite of what the machine does before, between and after the tests
PROGRAM = "program"     # the test that stands for a program as a whole
KERNEL_LOG = "kernel log"

PASS, XFAIL, SKIP, NOT_RUN = "pass", "xfail", "skip", "not run"
FAIL, CRASH, HANG, TIMEOUT = "fail", "crash", "hang", "timeout"
# From best to worst: a cell of the matrix shows the worst of its results.
STATUSES = (PASS, XFAIL, SKIP, NOT_RUN, FAIL, CRASH, HANG, TIMEOUT)
# What leaves a run green. NOT_RUN names the result that is its cause, and that is red.
GOOD = (PASS, XFAIL, SKIP)
# How one says how many there are.
WORDS = {PASS: "passed", XFAIL: "failed as expected", SKIP: "skipped", NOT_RUN: "did not run",
         FAIL: "failed", CRASH: "crashed", HANG: "hung", TIMEOUT: "timed out"}


@dataclass
class Result:
    """One object of matrix.json's "results"; README.rst documents the fields."""
    machine: str
    suite: str
    test: str
    row: str
    status: str
    value: str = ""
    expected: str = ""
    seconds: float = 0.0
    reason: str = ""
    cause: str = ""
    console: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What `cause` of another result calls it."""
        return f"{self.machine} {self.suite} {self.test}"


@dataclass
class End:
    """How a machine ended that should have gone on."""
    suite: str
    status: str
    reason: str
