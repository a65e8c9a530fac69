# SPDX-License-Identifier: GPL-2.0-only
"""`make mutate`: proves that the tests can fail.

The trailer "Red-without:" of a hook says what goes red when it is missing. Here it goes missing:
the kernel tree is checked out without that one patch, built, and booted with the named suite.
The trailer "Red-with:" of a mutation, a patch that puts a defect into the full tree, says what goes
red with it. Objects are incremental, so a patch costs what depends on the files that it touches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import json
import re
import shlex
import shutil
import signal
import sys
import textwrap
import time
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import machine
import matrix
import settings
import sphinx
import tables
import tree
from results import CRASH, FAIL, GOOD, HANG, NOT_RUN, PASS, PROGRAM, SKIP, STATUSES, TIMEOUT, Result
from settings import ARCHES, BUILD, CONFIG, HERE, HOOK, KERNEL, OUT, TREES, Error, fail, say
from tables import Test
from tree import git

# The trailers of patches without which configuration or build fails, or that of the documents.
STRUCTURE, DOCUMENTS = "build", "documents"
# The first word of the trailer of a mutation that a unit test of the kernel's code catches.
UNIT = "unit"
MUTATIONS = HERE / "mutations"
ABSENT = "absent"
RED, GREEN, STRUCTURAL = "red", "green", "structural"
DOES_NOT_APPLY, NOT_PROVEN = "does not apply", "not proven"


@dataclass
class Hook:
    """A patch of the series, or a mutation, with what its trailer says; machine and suite are only
    there if that is a test of theirs."""
    patch: Path
    trailer: str
    what: str
    machine: str = ""
    suite: str = ""
    test: str = ""
    config: str = ""        # the CONFIG= under which the test is red

    @property
    def mutation(self) -> bool:
        return self.trailer == "Red-with"


@dataclass
class Outcome:
    """One object of mutate.json's "results"; README.rst documents the fields."""
    hook: str
    subject: str
    trailer: str
    status: str
    reason: str
    seconds: float


class DoesNotApply(Error):
    """Other patches of the series build on this one, or what a mutation changes is no more."""


def chosen(names: list[str]) -> list[str]:
    """The patches that HOOK= leaves, by file name or number."""
    found = set()
    for pattern in map(str.strip, (HOOK or "*").split(",")):
        matched = {name for name in names for wanted in (pattern, f"{pattern:0>4}-*")
                   if fnmatch.fnmatchcase(name, wanted)}
        if not matched:
            fail(f"no hook or mutation matches “{pattern}” of HOOK={HOOK}; there are:\n  "
                 + "\n  ".join(names))
        found |= matched
    return [name for name in names if name in found]


def mutations() -> list[Path]:
    """Those for each base, and those that change what differs between bases."""
    return sorted([*MUTATIONS.glob("*.patch"), *(MUTATIONS / settings.BASE).glob("*.patch")],
                  key=lambda path: path.name)


def read_hooks(patch: Path, machines: dict[str, tables.Machine], tests: list[Test]) -> list[Hook]:
    """Reads the trailers; what they name must exist. A mutation can have more than one."""
    trailer = "Red-with" if patch.is_relative_to(MUTATIONS) else "Red-without"
    found = re.findall(rf"^{trailer}: *(.*?) *$", patch.read_text().split("\n---\n")[0], re.M)
    if not found or len(found) > 1 and trailer == "Red-without":
        fail(f"{patch.name} must have one trailer “{trailer}:”, and has {len(found)}")
    return [read_hook(patch, trailer, what, machines, tests) for what in found]


def read_hook(patch: Path, trailer: str, what: str, machines: dict[str, tables.Machine],
              tests: list[Test]) -> Hook:
    where = f"{patch.name}: “{trailer}: {what}”"
    if what in (STRUCTURE, DOCUMENTS) and trailer == "Red-without":
        return Hook(patch, trailer, what)
    words, config = what.split(maxsplit=2), ""
    if words[0].startswith("CONFIG="):
        config, words = words[0].removeprefix("CONFIG="), what.split(maxsplit=3)[1:]
    if words[0] == UNIT and len(words) == 2:
        hook = Hook(patch, trailer, what, test=words[1])
        if not unit_tests(hook).countTestCases():
            fail(f"{where}: there is no such test")
        return hook
    if len(words) != 3:
        fail(f"{where} is none of “{STRUCTURE}”, “{DOCUMENTS}”, “{UNIT} <test>” and "
             "“[CONFIG=<name>] <machine> <suite> <test>”")
    hook = Hook(patch, trailer, what, words[0], words[1], words[2], config)
    if config not in settings.CONFIGS:
        fail(f"{where}: there is no CONFIG={config}")
    if hook.machine not in machines:
        fail(f"{where}: machines.toml has no {hook.machine}")
    if not any(test.suite == hook.suite and hook.machine in test.machines for test in tests):
        fail(f"{where}: tests.toml has no {hook.suite} on {hook.machine}")
    return hook


def changed_commit(hook: Hook) -> str:
    """A commit of the tree with this hook reversed or this mutation applied, and all else kept."""
    index = TREES["patched"] / ".git/memtype-mutate.index"
    git("read-tree", "HEAD", index=index)
    try:
        git("apply", "--cached", *([] if hook.mutation else ["--reverse"]), hook.patch, index=index)
    except Error as error:
        raise DoesNotApply(str(error).split("\n", 1)[1]) from error
    how = "with" if hook.mutation else "without"
    return git("commit-tree", "-p", "HEAD", git("write-tree", index=index),
               text=f"{tree.MUTATED} {how} {hook.patch.name} (git checkout memtype undoes this)\n")


def checkout(where: str, stale: bool = False) -> None:
    """Signals wait meanwhile: half a checkout would leave the repository locked."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK,
                                  (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        git("checkout", "-q", where)
        if stale:
            shutil.rmtree(BUILD / "selftests", ignore_errors=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def checked_out(commit: str, programs: bool = True) -> Iterator[None]:
    """The tree at a commit, and back where it was afterwards, whatever happens meanwhile.

    git touches only the files that differ, so that make sees the change both ways. What it would
    not see is a changed Makefile of the selftests, if their `programs` are built meanwhile.
    """
    changed = git("diff", "--name-only", "HEAD", commit)
    makefile = re.search(r"^tools/testing/selftests/.*(Makefile|\.mk)$", changed, re.M)
    stale = programs and bool(makefile)
    head = git("rev-parse", "--abbrev-ref", "HEAD")
    head = git("rev-parse", "HEAD") if head == "HEAD" else head
    try:
        checkout(commit, stale)
        yield
    finally:
        checkout(head, stale)


def used(hooks: list[Hook], machines: dict[str, tables.Machine]) -> list[tuple[str, str]]:
    """The kernels to build, by architecture and configuration: STRUCTURE is of each architecture's
    own."""
    structure = any(hook.what == STRUCTURE for hook in hooks)
    return list(dict.fromkeys([
        *((arch, CONFIG) for arch in ARCHES if structure),
        *(machines[hook.machine].kernel for hook in hooks if hook.machine)]))


def of_suite(hook: Hook, results: list[Result]) -> list[Result]:
    return [result for result in results
            if (result.machine, result.suite) == (hook.machine, hook.suite)]


def crashed_in(hook: Hook, suite: list[Result], full: list[Result]) -> bool:
    """Whether a program that crashed did so in the hook's test: all that comes before the test
    on the full tree has ended. Of the first test one cannot know."""
    names = [result.test for result in of_suite(hook, full)]
    before = set(names[:names.index(hook.test)]) if hook.test in names else set()
    return bool(before) and before == {result.test for result in suite
                                       if result.test in names and result.status in GOOD}


def status_of(hook: Hook, results: list[Result], full: list[Result]) -> tuple[str, str]:
    """The status of the hook's test, and why it is not a pass."""
    suite = of_suite(hook, results)
    found = [result for result in suite if result.test == hook.test]
    if found:
        worst = max(found, key=lambda result: STATUSES.index(result.status))
        return worst.status, worst.reason
    for result in suite:
        if result.test == PROGRAM and result.status not in GOOD:
            if result.status == CRASH and crashed_in(hook, suite, full):
                return CRASH, f"in the test: {result.reason}"
            return NOT_RUN, f"{hook.suite} ended before the test, {result.status}: {result.reason}"
    return ABSENT, f"{hook.suite} has no test “{hook.test}”"


def unit_tests(hook: Hook) -> unittest.TestSuite:
    """The tests of tests/ that the trailer names."""
    if str(HERE / "tests") not in sys.path:
        sys.path.insert(0, str(HERE / "tests"))
    loader = unittest.TestLoader()
    found = loader.loadTestsFromName(hook.test)
    return unittest.TestSuite() if loader.errors else found


def run_unit(hook: Hook) -> tuple[str, str]:
    """Status of a unit test, which compiles what the tree has now, and why it is not a pass."""
    outcome = unittest.TestResult()
    unit_tests(hook).run(outcome)
    for status, found in ((NOT_RUN, outcome.errors), (FAIL, outcome.failures),
                          (SKIP, outcome.skipped)):
        if found:
            return status, found[0][1].strip().splitlines()[-1]
    return PASS, ""


def try_changed(hook: Hook, full: list[Result], machines: dict[str, tables.Machine],
                tests: list[Test], progress: matrix.Progress) -> tuple[str, str]:
    """Status and reason of a hook, from the tree as it is now, without it or with the mutation."""
    if hook.what == DOCUMENTS:
        problems = sphinx.warnings()
        return (RED, problems[0]) if problems else (GREEN, "the documents build without it")
    if hook.what.startswith(f"{UNIT} "):
        status, reason = run_unit(hook)
    else:
        kernels = used([hook], machines)
        try:
            images = [matrix.build_for(*kernel) for kernel in kernels]
        except Error as error:
            return STRUCTURAL if hook.machine else RED, str(error)
        if not hook.machine:
            return GREEN, f"everything builds without it, for {' and '.join(ARCHES)}"
        _, results = matrix.run_one(
            machines[hook.machine], [test for test in tests if test.suite == hook.suite],
            images[0], progress, OUT / "mutate" / hook.patch.stem)
        status, reason = status_of(hook, results, full)
    # A test that did not come to its end says nothing: anything may have stopped it.
    verdicts = {FAIL: RED, CRASH: RED, NOT_RUN: NOT_PROVEN, HANG: NOT_PROVEN,
                TIMEOUT: NOT_PROVEN}
    return verdicts.get(status, GREEN), f"{status}: {reason}" if reason else status


def run_full(hooks: list[Hook], machines: dict[str, tables.Machine], tests: list[Test],
             progress: matrix.Progress) -> tuple[list[machine.Run], list[Result]]:
    """What the full tree gives: a test that is not a pass there proves nothing by being red."""
    suites = {name: named for name in machines
              if (named := {hook.suite for hook in hooks if hook.machine == name})}
    matrix.equip({name: machines[name] for name in suites})
    images = {kernel: matrix.build_for(*kernel) for kernel in used(hooks, machines)}
    runs, results = [], []
    for name, wanted in suites.items():
        run, found = matrix.run_one(machines[name],
                                    [test for test in tests if test.suite in wanted],
                                    images[machines[name].kernel], progress, OUT / "mutate/full")
        runs.append(run)
        results += found
    return runs, results


def mutate_one(hook: Hook, full: list[Result], machines: dict[str, tables.Machine],
               tests: list[Test], progress: matrix.Progress) -> tuple[str, str]:
    """Status and reason of a hook."""
    if hook.test:
        status, reason = status_of(hook, full, full) if hook.machine else run_unit(hook)
        if status != PASS:
            return NOT_PROVEN, f"on the full tree it is {status}: {reason}"
    if hook.what == DOCUMENTS and (problems := sphinx.warnings()):
        return NOT_PROVEN, f"on the full tree: {problems[0]}"
    try:
        commit = changed_commit(hook)
    except DoesNotApply as error:
        return DOES_NOT_APPLY, str(error)
    with checked_out(commit):
        return try_changed(hook, full, machines, tests, progress)


def table(outcomes: list[Outcome]) -> str:
    lines = [("patch", "trailer", "result", "seconds", "reason")]
    lines += [(outcome.hook, outcome.trailer, outcome.status, f"{outcome.seconds:.0f}",
               textwrap.shorten(outcome.reason, 120, placeholder=" ...")) for outcome in outcomes]
    return settings.columns(lines)


def mutate() -> int:
    """Take each patch of HOOK= away, put each defect in, and see a test go red."""
    if KERNEL != "patched":
        fail("make mutate is for the patched kernel alone: without KERNEL=")
    machines = tables.all_machines()
    tests = tables.all_tests(machines)
    base = tree.lay("patched")
    patches = {path.name: path for path in [*tree.hooks(base.patches), *mutations()]}
    hooks = [hook for name in chosen(list(patches))
             for hook in read_hooks(patches[name], machines, tests)]
    hooks = [hook for hook in hooks if hook.config == CONFIG]
    if not hooks:
        fail(f"no trailer of HOOK={HOOK} is for CONFIG={CONFIG}")
    if tree.dirty("patched"):
        fail(f"{TREES['patched']} has uncommitted changes: commit them there first\n"
             f"{tree.dirty('patched')}")
    (OUT / "mutate.json").unlink(missing_ok=True)
    shutil.rmtree(OUT / "mutate", ignore_errors=True)
    (OUT / "mutate").mkdir(parents=True)
    progress = matrix.Progress(list(machines))
    runs, full = run_full(hooks, machines, tests, progress)

    outcomes = []
    for hook in hooks:
        say(f"{'with' if hook.mutation else 'without'} {hook.patch.name}, {hook.what}:")
        start = time.monotonic()
        status, reason = mutate_one(hook, full, machines, tests, progress)
        outcomes.append(Outcome(hook.patch.name, tree.subject(hook.patch),
                                f"{hook.trailer}: {hook.what}", status, reason,
                                round(time.monotonic() - start, 1)))
        say(f"  {status}")
    say("the full tree again:")
    # Otherwise a full disk or the like would make every “build” red.
    for kernel in used(hooks, machines):
        matrix.build_for(*kernel)
    selection = f" HOOK={shlex.quote(HOOK)}" if HOOK else ""
    (OUT / "mutate.json").write_text(json.dumps({
        "environment": {**matrix.environment(base, runs),
                        "command": f"make mutate{settings.variables()}{selection}"},
        "results": [dataclasses.asdict(outcome) for outcome in outcomes],
    }, indent=1) + "\n")
    red = sum(outcome.status == RED for outcome in outcomes)
    say(f"\n{table(outcomes)}\n\nmutate: {red} of {len(outcomes)} proven")
    return 0 if red == len(outcomes) else 1


if __name__ == "__main__":
    settings.main({"mutate": mutate}, __doc__)
