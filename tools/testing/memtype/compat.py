# SPDX-License-Identifier: GPL-2.0-only
"""`make compat`: upstream's own selftests must give the same results with our patches as without.

Both kernels run the same programs: those of tests.toml that are not this repository's.
"""

from __future__ import annotations

import json
import re
from typing import Any

import matrix
import summary
import settings
import tables
from results import GOOD, KUNIT, NOT_RUN, PASS, XFAIL
from settings import KERNEL, OUT, TREES, fail, say

# Of a result that one of the kernels does not have.
ABSENT = "-"
FIELDS = ("machine", "suite", "test", "base", "patched")


def measure() -> None:
    """Run upstream's suites on the kernel of KERNEL=; only the comparison judges them."""
    settings.TARGET = "compat"
    machines, tests = tables.select(slow=True)
    tests = [test for test in tests if test.suite != KUNIT and not tables.is_ours(test)]
    machines = {name: item for name, item in machines.items()
                if item.compat and any(name in test.machines for test in tests)}
    if not machines:
        fail("make compat runs upstream's suites on " + ", ".join(
            name for name, item in tables.all_machines().items() if item.compat))
    for item in machines.values():
        item.cmdline = f"{item.cmdline} {item.compat_cmdline}".strip()
        if item.compat_tcg:
            item.command = re.sub(r"-accel \S+", f"-accel {item.compat_tcg}", item.command)
    matrix.run_matrix(machines, tests, OUT / "compat" / KERNEL)


def statuses(matrix_json: dict[str, Any]) -> dict[tuple[str, str, str], str]:
    """(machine, suite, test) → status; a test that is there twice has both."""
    found: dict[tuple[str, str, str], str] = {}
    for result in matrix_json["results"]:
        key = (result["machine"], result["suite"], result["test"])
        found[key] = f"{found[key]}, {result['status']}" if key in found else result["status"]
    return found


def differences(base: dict[str, Any], patched: dict[str, Any]) -> list[dict[str, str]]:
    """The results that are not the same on both kernels, as objects of compat.json; but what the
    base is expected to fail, and our patches mend, is none."""
    before, after = statuses(base), statuses(patched)
    return [dict(zip(FIELDS, (*key, before.get(key, ABSENT), after.get(key, ABSENT))))
            for key in {**before, **after} if before.get(key) != after.get(key)
            and (before.get(key), after.get(key)) != (XFAIL, PASS)]


def failures(base: dict[str, Any], patched: dict[str, Any]) -> dict[tuple[str, str, str], str]:
    """What is the same on both kernels, and not good."""
    before, after = statuses(base), statuses(patched)
    return {key: status for key, status in before.items()
            if after.get(key) == status and not set(status.split(", ")) <= set(GOOD)}


def report() -> int:
    """Print what differs, and what fails on both; 0 if all ran and nothing differs."""
    runs = {kernel: summary.load(OUT / "compat" / kernel) for kernel in TREES}
    found = differences(runs["base"], runs["patched"])
    (OUT / "compat.json").write_text(json.dumps({
        "environment": {kernel: {**run["environment"],
                                 "command": f"make compat{settings.variables()}"}
                        for kernel, run in runs.items()},
        "results": found,
    }, indent=1) + "\n")
    total = len({**statuses(runs["base"]), **statuses(runs["patched"])})
    if found:
        say("\n" + settings.columns([FIELDS, *([one[name] for name in FIELDS] for one in found)]))
    both = failures(runs["base"], runs["patched"])
    if both:
        say("\nfails on both kernels:\n\n" + settings.columns(
            [(*FIELDS[:3], "status"), *([*key, status] for key, status in both.items())]))
    passed = [summary.counts(run["results"]).passed for run in runs.values()]
    missing = any(NOT_RUN in status for run in runs.values() for status in statuses(run).values())
    say(f"\ncompat: {len(found)} of {total} results differ between the base and the patched "
        f"kernel\nlogs: {OUT / 'compat'}")
    # What did not run is no proof, although it is the same on both.
    return 1 if found or missing or not all(passed) else 0


if __name__ == "__main__":
    settings.main({"measure": measure, "report": report}, __doc__)
