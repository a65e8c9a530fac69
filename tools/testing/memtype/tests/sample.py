# SPDX-License-Identifier: GPL-2.0-only
"""A matrix.json that has one of everything, for the tests of the reports."""

from __future__ import annotations

from typing import Any

LOG = ["<script>\x1b[0m & 'x'"] + [f"line {count} of the log" for count in range(199)]
CRASH = {"suite": "s/dies", "row": "s/dies", "test": "program"}


def result(status: str, **values: Any) -> dict[str, Any]:
    return {"machine": "a", "suite": "s", "test": "t", "row": values.get("suite", "s"),
            "status": status, "value": "", "expected": "", "seconds": 1.5,
            "reason": "", "cause": "", "log": [],
            "console": "" if status in ("skip", "not run") else
            f"{values.get('machine', 'a')}/console.log", "repeat": "make matrix", **values}


def matrix(*results: dict[str, Any], machines: tuple[str, ...] = ("a", "b", "c")) -> dict[str, Any]:
    return {
        "environment": {"kernel": "6.12", "commit": "c0ffee", "note": "", "command": "make matrix",
                        "date": "2026-11-26T00:30:00+00:00", "tools": {"gcc": "12"}},
        "machines": {name: {"arch": "y" if name == "c" else "x", "emulator": "qemu", "proves": "p",
                            "proves_not": "n", "seconds": 61.2, "boots": 2 if name == "b" else 1}
                     for name in machines},
        "proofs": {"s": {"proves": "order", "proves_not": "<instructions>"}},
        "sources": {"s": "tools/testing/selftests/kvm/s.c"},
        "suites": ["s", "other", "s/dies", "s/after", "s/last"],
        "results": list(results),
    }


def row(name: str, machine: str, value: str, expected: str = "", **values: Any) -> dict[str, Any]:
    good = value == (expected or value)
    return result("pass" if good else "fail", suite="other", test=name, row=name, value=value,
                  expected=expected or value, machine=machine,
                  reason="" if good else f"is {value}, expected {expected}", **values)


MATRIX = matrix(
    result("pass"), result("pass", test="u"), result("xfail", test="v", reason="no <feature>"),
    result("skip", machine="b", reason="no <device>"),
    row("guest WC", "a", "forced"), row("guest WC", "b", "WB", "WC", log=LOG),
    row("guest WC", "c", "WB", "WC"), row("x: guest UC", "a", "UC"), row("x: guest UC", "b", "UC"),
    result("crash", **CRASH, machine="a", reason="Kernel panic", log=["<0>oops", "end of it"]),
    *(result("not run", suite=suite, test="program", cause="a s/dies program")
      for suite in ("s/after", "s/last")),
    result("hang", **CRASH, machine="b", reason="silent"),
    result("timeout", **CRASH, machine="c", reason="over its limit of 60 s"),
    result("not run", suite="s/after", test="program", machine="c", reason="who knows"),
)
