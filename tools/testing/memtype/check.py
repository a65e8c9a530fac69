# SPDX-License-Identifier: GPL-2.0-only
"""`make test` and its parts: unit tests, checks of everything that we wrote, and the matrix."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import barrier
import bench
import build
import data
import matrix
import mutate
import report
import settings
import tree
from settings import ARCHES, BUILD, CONFIG, HERE, KERNEL, REPO, TREES, say

# The warnings that W=1 adds to a kernel object (scripts/Makefile.extrawarn), for a program.
W1 = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-sign-compare", "-Wmissing-declarations",
      "-Wmissing-format-attribute", "-Wmissing-prototypes", "-Wold-style-definition",
      "-Wunused-but-set-variable", "-Wunused-const-variable"]
# kselftest_harness.h defines the functions of a fixture without a prototype.
HARNESS = re.compile(r"(previous prototype for|symbol) .\w+_(setup|teardown)")
# How the header of a trace event must look.
TRACE = re.compile(r"include/trace/\S+ \w+:(COMPLEX_MACRO|PARENTHESIS_ALIGNMENT|OPEN_ENDED_LINE): ")
# Where kernel objects are built; the rest of our C is programs.
KERNEL_DIRECTORIES = ("arch/", "drivers/", "mm/", "virt/", "lib/", "kernel/")
# Without them the kernel behaves as the base; the last depends on the one before it.
OPTIONS = ("CONFIG_KVM_MEMTYPE", "CONFIG_DMA_CACHE", "CONFIG_VFIO_MOCK")
# In the name of every function of cache maintenance, also of those that are inlined when it is on.
DMA_CACHE = "dma_cache"
# The modules that maintain caches.
MODULES = ("drivers/iommu/iommufd/iommufd.ko", "drivers/vfio/vfio_iommu_type1.ko")
# Of `git diff --diff-filter`.
OVERLAY, HOOKED = "A", "M"


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
        # It reads its options where it runs, and leaves a cache there.
        shutil.copy(REPO / ".checkpatch.conf", scratch)
        for patch in sorted(Path(scratch).glob("*.patch")):
            # Not wrapped, however long the name of the test is.
            patch.write_bytes(re.sub(rb"(?m)^Red-without: .*\n", b"", patch.read_bytes(), count=1))
            problems += run(["perl", TREES["patched"] / "scripts/checkpatch.pl", "--strict",
                             "--show-types", "--showfile", "--no-summary", "--terse",
                             f"--root={TREES['patched']}", patch], cwd=scratch,
                            env={**os.environ, "PATH": "/usr/bin:/bin",
                                 # Without it, SPDX tags are not checked.
                                 "GIT_DIR": str(TREES["patched"] / ".git")})
    return [line for line in problems if not TRACE.match(line)]


def our_sources(kinds: str = OVERLAY + HOOKED) -> list[str]:
    """C files of ours, and files of the kernel that our patches touch."""
    changed = tree.git("diff", "--no-renames", "--name-only", f"--diff-filter={kinds}",
                       tree.base_ref(), "HEAD").splitlines()
    return [name for name in changed if name.endswith(".c")]


def kernel_sources(arch: str, kinds: str = OVERLAY + HOOKED) -> list[str]:
    """Those of our sources that are a part of the kernel, and not of another architecture's."""
    other = tuple(f"arch/{name}/" for name in ("x86", "arm64", "riscv")
                  if name != arch.split("_", 1)[0])
    return [name for name in our_sources(kinds)
            if name.startswith(KERNEL_DIRECTORIES) and not name.startswith(other)]


def kernel_objects(arch: str, kinds: str) -> list[str]:
    """The objects of our sources in the kernel that was built, by the names of make's targets.

    virt/kvm is compiled from within arch/*/kvm, so only kbuild knows what it calls an object.
    """
    commands = [build.objects(arch) / name.parent / f".{name.stem}.o.cmd"
                for name in map(Path, kernel_sources(arch, kinds))]
    return [path.read_text().split(" ", 1)[0].removeprefix("savedcmd_")
            for path in commands if path.exists()]


def our_lines() -> set[tuple[str, int]]:
    """File and number of each line that our commits have and the base has not."""
    lines: set[tuple[str, int]] = set()
    name = ""
    for line in tree.git("diff", "--no-renames", "-U0", tree.base_ref(), "HEAD").splitlines():
        hunk = re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line)
        if line.startswith("+++ b/"):
            name = line[6:]
        elif hunk:
            start = int(hunk[1])
            lines.update((name, number) for number in range(start, start + int(hunk[2] or 1)))
    return lines


def kernel_warnings(arch: str) -> list[str]:
    """gcc W=1 and sparse on the kernel objects that are ours or hooked, in a place of their own.

    In a hooked file, only what is said of our lines counts: the base has warnings too.
    """
    out, linux = BUILD / "check" / f"{arch}-w1", TREES[KERNEL].resolve()
    build.configure(arch, out)
    what, log = f"{arch} sparse and W=1", out / "check.log"
    words: list[str | Path] = ["-C", linux, f"O={out}", "C=1", "W=1"]
    # Before any object, kbuild compiles files of the base, of which it also warns.
    build.make(what, arch, log, *words, "prepare")
    ours, problems, checked = our_lines(), [], 0
    for kind in OVERLAY, HOOKED:
        objects = kernel_objects(arch, kind)
        if not objects:
            continue
        for name in objects:
            (out / name).unlink(missing_ok=True)    # what is not compiled does not warn
        build.make(what, arch, log, *words, *objects)
        checked += len(objects)
        for line in log.read_text().splitlines():
            if re.search(r"(warning|error): ", line):
                where = re.match(r"(\S+?):(\d+):", line)
                if kind == OVERLAY or where and (
                        os.path.relpath((out / where[1]).resolve(), linux), int(where[2])) in ours:
                    problems.append(line)
    return problems if checked else ["the configuration builds none of them"]


def symbols(arch: str, path: Path, *options: str) -> Counter[str]:
    """How often an object has each symbol, without those that the compiler numbers."""
    listed = settings.output([f"{ARCHES[arch][0]}nm", "--format=posix", *options, path])
    return Counter(name for name in (line.split(" ", 1)[0] for line in listed.splitlines())
                   if "." not in name and "__UNIQUE_ID_" not in name)


def option_off(arch: str) -> list[str]:
    """With OPTIONS off, what our patches touch must neither have nor use anything of ours.

    Ours is what the overlay's objects define and nothing else in the kernel does, and DMA_CACHE.
    """
    on, off = build.objects(arch), BUILD / "check" / f"{arch}-off"
    build.configure(arch, off, OPTIONS)
    hooked = kernel_objects(arch, HOOKED)
    overlay: Counter[str] = Counter()
    for name in kernel_objects(arch, OVERLAY):
        overlay += symbols(arch, on / name, "--defined-only")
    everything = symbols(arch, on / "vmlinux.o", "--defined-only")
    ours = {name for name, count in overlay.items() if everything[name] == count}
    if not any(ours & symbols(arch, on / name).keys() for name in hooked):
        return ["with the options on there is nothing to see either, so this check proves nothing"]
    build.make(f"{arch} options off", arch, off / "check.log", "-C", TREES[KERNEL], f"O={off}",
               *hooked)
    return [f"{name} has {symbol} although the options are off" for name in hooked
            for symbol in sorted(symbols(arch, off / name))
            if symbol in ours or DMA_CACHE in symbol]


def modules(arch: str) -> list[str]:
    """What maintains caches builds as modules, too: modpost stops at a symbol that is not exported,
    or whose namespace is not imported."""
    out = BUILD / "check" / f"{arch}-modules"
    build.configure(arch, out, files=[HERE / "configs/modules.config"])
    build.make(f"{arch} modules", arch, out / "check.log", "-C", TREES[KERNEL], f"O={out}",
               "vmlinux", "modules")
    return [f"{name} uses nothing of {DMA_CACHE}, so this check proves nothing" for name in MODULES
            if not any(DMA_CACHE in symbol
                       for symbol in symbols(arch, out / name, "--undefined-only"))]


def program_warnings(arch: str) -> list[str]:
    """gcc with W=1's warnings, and sparse, on our user-space programs."""
    problems = []
    cross = ARCHES[arch][0]
    out = BUILD / "check" / arch
    shutil.rmtree(out, ignore_errors=True)
    # sparse's own wrapper runs both; its model of the machine is that of this one.
    compiler = f"{cross}gcc" if cross else "cgcc"
    sources = our_sources(OVERLAY)
    for path in data.programs(arch) + [Path("memtype/misbehave"), Path(bench.PROGRAM)]:
        if f"tools/testing/selftests/{path}.c" in sources:
            log = build.selftest_programs(arch, out, [path], f"{path.name} warnings",
                                          f"CC={compiler}", cflags=" ".join(W1))
            problems += [line for line in log.read_text().splitlines()
                         if path.name in line and re.search(r"(warning|error): ", line)
                         and not HARNESS.search(line)]
    for name in build.PROGRAMS:
        done = subprocess.run([compiler, *W1, *build.UAPI, "-c", "-o", out / "program.o",
                               TREES["patched"] / name], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        problems += done.stdout.splitlines()
    return problems


def kernel_doc() -> list[str]:
    """Comments that do not describe what they stand above."""
    files = [name for name in tree.overlay_files()
             if name.endswith((".c", ".h")) and name.startswith((*KERNEL_DIRECTORIES, "include/"))]
    return run(["perl", TREES["patched"] / "scripts/kernel-doc", "-none", "-Wall", "-Werror",
                *files], cwd=TREES["patched"])


def trailers() -> list[str]:
    """What `make mutate` would refuse, and mutations that do not apply."""
    machines = data.all_machines()
    tests = data.all_tests(machines)
    problems = []
    patches = [series.parent / name for series in (REPO / "patches").glob("*/series")
               for group in tree.read_series(series.parent) for name in group.patches]
    for patch in patches + mutate.mutations():
        try:
            hook = mutate.read_hook(patch, machines, tests)
            if hook.mutation:
                mutate.changed_commit(hook)
        except mutate.DoesNotApply as error:
            problems.append(f"{patch.name} does not apply: {error}")
        except settings.Error as error:
            problems.append(str(error))
    return problems


def shell() -> list[str]:
    return run(["shellcheck", "-x", HERE / "setup.sh", HERE / "run.sh", REPO / ".ci/run"])


def python() -> list[str]:
    files = sorted(HERE.rglob("*.py"))
    with tempfile.TemporaryDirectory() as cache:
        return (run(["/usr/bin/mypy", "--strict", "--no-error-summary", f"--cache-dir={cache}",
                     *files], cwd=HERE)
                + run(["/usr/bin/flake8", "--max-line-length=100", *files], cwd=HERE))


def our_warnings(log: str, linux: Path) -> list[str]:
    """What Sphinx says of files of ours, and of our lines in the kernel's."""
    overlay = set(tree.overlay_files())
    lines = our_lines()
    problems = []
    for line in log.splitlines():
        match = re.match(r"(\S+?):(?:(\d+):)? (?:WARNING|ERROR|SEVERE|CRITICAL|warning|error): ",
                         line)
        if match:
            name = os.path.relpath(linux / match[1], linux)
            if name in overlay or (name, int(match[2] or 0)) in lines:
                problems.append(line)
    return problems


def sphinx() -> list[str]:
    """The kernel's own documents build, of the documents that are ours or hooked."""
    linux, out = TREES["patched"].resolve(), BUILD / "check/documents"
    overlay = set(tree.overlay_files())
    names = {name for name in overlay | {name for name, _ in our_lines()}
             if name.startswith("Documentation/") and name.endswith(".rst")}
    # Only what has an index can be built alone, and of that only what is named here is read.
    directories, patterns = set(), {"index.rst"}
    for name in names:
        directory = next(parent for parent in (linux / name).parents
                         if (parent / "index.rst").exists())
        directories.add(os.path.relpath(directory, linux / "Documentation"))
        patterns.add(os.path.relpath(linux / name, directory))
    shutil.rmtree(out, ignore_errors=True)      # Sphinx does not repeat its warnings
    log = out / "check.log"
    build.make("documents", "x86_64", log, "-C", linux, f"O={out}",
               f"SPHINXDIRS={' '.join(sorted(directories))}",
               f"SPHINXOPTS=-q -D include_patterns={','.join(sorted(patterns))}", "htmldocs")
    html = out / "Documentation/output"
    return our_warnings(log.read_text(), linux) + [
        f"{name} was not built" for name in sorted(names & overlay)
        if not (html / Path(name).relative_to("Documentation").with_suffix(".html")).exists()]


def documents() -> list[str]:
    """Other reStructuredText that parses, and a README that names only what is there."""
    problems = []
    for path in [name for name in tree.overlay_files()
                 if name.endswith(".rst") and not name.startswith("Documentation/")]:
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
    "x86_64 options off: no trace of the hooks": option_off,
    "arm64 options off: no trace of the hooks": option_off,
    "x86_64 modules": modules,
    "x86_64 programs: sparse, W=1": program_warnings,
    "arm64 programs: W=1": program_warnings,
    "x86_64 exit barrier": barrier.exit_barrier,
    "arm64 exit barrier": barrier.exit_barrier,
    "kernel-doc": kernel_doc,
    "Sphinx": sphinx,
    "Red-without and Red-with trailers": trailers,
    "Python: mypy --strict, flake8": python,
    "shell: shellcheck": shell,
    "documents": documents,
}


def run_checks() -> tuple[int, int, int]:
    tree.lay("patched")
    for arch in ARCHES:
        build.selftests(arch)
        if kernel_sources(arch):
            build.kernel(arch)
    statuses = []
    for name, function in CHECKS.items():
        arch = name.split()[0]
        if function in (kernel_warnings, option_off) and not kernel_sources(arch):
            say(f"check {name}: skip: overlay and patches have no {arch} kernel sources")
            statuses.append("skip")
            continue
        try:
            problems = function(arch) if arch in ARCHES else function()
        except settings.Error as error:
            problems = str(error).splitlines()
        statuses.append("FAIL" if problems else "pass")
        say(f"check {name}: {statuses[-1]}")
        for problem in problems[:50]:
            say(f"    {problem}")
    return statuses.count("pass"), statuses.count("FAIL"), statuses.count("skip")


def run_units() -> tuple[int, int, int]:
    """The runner's own tests."""
    # A shell ignores it for its background jobs, and some tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
