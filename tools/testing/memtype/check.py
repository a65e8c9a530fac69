# SPDX-License-Identifier: GPL-2.0-only
"""`make test` and its parts: unit tests, checks of everything that we wrote, and the matrix."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path

import build
import data
import matrix
import report
import settings
import tree
from settings import ARCHES, BUILD, CONFIG, HERE, KERNEL, REPO, TREES, say

# The warnings that W=1 adds to a kernel object (scripts/Makefile.extrawarn), for a program.
W1 = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-sign-compare", "-Wmissing-declarations",
      "-Wmissing-format-attribute", "-Wmissing-prototypes", "-Wold-style-definition",
      "-Wunused-but-set-variable", "-Wunused-const-variable"]
# Where kernel objects are built; the rest of our C is programs.
KERNEL_DIRECTORIES = ("arch/", "drivers/", "mm/", "virt/", "lib/", "kernel/")


def run(command: list[str | Path], **kwargs: object) -> list[str]:
    """What a checker printed if it failed; nothing if it is content."""
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False,
                          **kwargs)  # type: ignore[call-overload]
    return [] if done.returncode == 0 else done.stdout.splitlines() or [f"{command[0]} failed"]


def checkpatch() -> list[str]:
    """The commits that `make series` would send, overlay and hooks, as a reviewer sees them."""
    problems = []
    with tempfile.TemporaryDirectory() as scratch:
        tree.git("format-patch", "-q", "--no-renames", "-o", scratch, f"{tree.base_ref()}..HEAD")
        for patch in sorted(Path(scratch).iterdir()):
            problems += run(["perl", TREES["patched"] / "scripts/checkpatch.pl", "--strict",
                             "--show-types", "--no-summary", "--terse",
                             f"--root={TREES['patched']}", patch], cwd=REPO,
                            env={**os.environ, "PATH": "/usr/bin:/bin"})
    return problems


def our_sources() -> list[str]:
    """C files of ours, and files of the kernel that our patches touch."""
    changed = tree.git("diff", "--name-only", tree.base_ref(), "HEAD").splitlines()
    return [name for name in changed if name.endswith(".c")]


def kernel_objects(arch: str) -> list[str]:
    """The objects of the kernel that our sources go into on this architecture."""
    other = tuple(f"arch/{name}/" for name in ("x86", "arm64", "riscv")
                  if name != arch.split("_", 1)[0])
    return [name[:-2] + ".o" for name in our_sources()
            if name.startswith(KERNEL_DIRECTORIES) and not name.startswith(other)]


def kernel_warnings(arch: str) -> list[str]:
    """gcc W=1 and sparse on the kernel objects that are ours or hooked."""
    wanted = kernel_objects(arch)
    build.configure(arch)
    log = build.objects(arch) / "check.log"
    build.make(f"{arch} sparse and W=1", arch, log, "-C", TREES[settings.KERNEL],
               f"O={build.objects(arch)}", "C=2", "W=1", *wanted)
    return [line for line in log.read_text().splitlines()
            if re.search(r"(warning|error): ", line)]


def program_warnings(arch: str) -> list[str]:
    """gcc with W=1's warnings, and sparse, on our user-space programs."""
    problems = []
    cross = ARCHES[arch][0]
    out = BUILD / "check" / arch
    shutil.rmtree(out, ignore_errors=True)
    # sparse's own wrapper runs both; its model of the machine is that of this one.
    compiler = f"{cross}gcc" if cross else "cgcc"
    sources = our_sources()
    for path in data.programs(arch) + [Path("memtype/misbehave")]:
        if f"tools/testing/selftests/{path}.c" in sources:
            log = build.selftest_programs(arch, out, [path], f"{path.name} warnings",
                                          f"CC={compiler}", CFLAGS=" ".join(W1))
            problems += [line for line in log.read_text().splitlines()
                         if path.name in line and re.search(r"(warning|error): ", line)]
    init = TREES["patched"] / "tools/testing/memtype/init.c"
    done = subprocess.run([compiler, *W1, "-c", "-o", out / "init.o", init], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return problems + done.stdout.splitlines()


def shell() -> list[str]:
    return run(["shellcheck", "-x", HERE / "setup.sh", REPO / ".ci/run"])


def python() -> list[str]:
    files = sorted(HERE.rglob("*.py"))
    with tempfile.TemporaryDirectory() as cache:
        return (run(["/usr/bin/mypy", "--strict", "--no-error-summary", f"--cache-dir={cache}",
                     *files], cwd=HERE)
                + run(["/usr/bin/flake8", "--max-line-length=100", *files], cwd=HERE))


def documents() -> list[str]:
    """reStructuredText that parses, and a README that names nothing which is not there."""
    problems = []
    for path in [name for name in tree.overlay_files() if name.endswith(".rst")]:
        problems += run(["rst2html", "--halt=warning", REPO / path, os.devnull])
    readme = (REPO / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", (REPO / "Makefile").read_text(), re.M))
    problems += [f"README.md: {word} is not filled in" for word in re.findall("@[A-Z]+@", readme)]
    for target in re.findall(r"`make ([a-z-]+)", readme):
        if target not in targets:
            problems.append(f"README.md: there is no make target {target}")
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        if not (REPO / link).exists():
            problems.append(f"README.md: {link} does not exist")
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)", (REPO / "Makefile").read_text(), re.M))
    problems += [f"Makefile: {name} is not in make help" for name in phony - targets]
    return problems


# A check whose name starts with an architecture is for that one.
CHECKS: dict[str, Callable[..., list[str]]] = {
    "checkpatch --strict": checkpatch,
    "x86_64 kernel objects: sparse, W=1": kernel_warnings,
    "arm64 kernel objects: sparse, W=1": kernel_warnings,
    "x86_64 programs: sparse, W=1": program_warnings,
    "arm64 programs: W=1": program_warnings,
    "Python: mypy --strict, flake8": python,
    "shell: shellcheck": shell,
    "documents": documents,
}


def run_checks() -> tuple[int, int, int]:
    tree.lay("patched")
    for arch in ARCHES:
        build.selftests(arch)
    statuses = []
    for name, function in CHECKS.items():
        arch = name.split()[0]
        if function is kernel_warnings and not kernel_objects(arch):
            say(f"check {name}: skip: overlay and patches have no {arch} kernel objects")
            statuses.append("skip")
            continue
        problems = function(arch) if arch in ARCHES else function()
        statuses.append("FAIL" if problems else "pass")
        say(f"check {name}: {statuses[-1]}")
        for problem in problems[:50]:
            say(f"    {problem}")
    return statuses.count("pass"), statuses.count("FAIL"), statuses.count("skip")


def run_units() -> tuple[int, int, int]:
    """The runner's own tests."""
    tree.lay("patched")
    found = unittest.defaultTestLoader.discover(str(HERE / "tests"))
    outcome = unittest.TextTestRunner(sys.stdout, verbosity=2).run(found)
    failed = len(outcome.failures) + len(outcome.errors)
    return outcome.testsRun - failed - len(outcome.skipped), failed, len(outcome.skipped)


def run_matrix() -> tuple[int, int, int]:
    matrix.matrix()
    return report.counts(report.load()["results"])


def run_parts(*parts: Callable[[], tuple[int, int, int]]) -> int:
    """Runs the parts, each to its end, and prints the sum in the line that CI reads."""
    if KERNEL != "patched" or CONFIG:
        settings.fail("this is for the patched kernel alone; others: make matrix KERNEL= CONFIG=")
    start = time.monotonic()
    sums = []
    for part in parts:
        try:
            sums.append(part())
        except settings.Error as error:
            say(f"error: {error}")
            sums.append((0, 1, 0))
    passed, failed, skipped = (sum(column) for column in zip(*sums))
    say(f"took {(time.monotonic() - start) / 60:.1f} minutes")
    say(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    settings.main({"test": lambda: run_parts(run_units, run_checks, run_matrix),
                   "check": lambda: run_parts(run_checks), "unit": lambda: run_parts(run_units)})
