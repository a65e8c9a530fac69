# SPDX-License-Identifier: GPL-2.0-only
"""`make test` and its parts: unit tests, checks of everything that we wrote, and the matrix."""

from __future__ import annotations

import fnmatch
import functools
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import barrier
import bench
import build
import matrix
import mutate
import picture
import report
import settings
import sphinx
import summary
import tables
import tree
from results import BOOT, SKIP
from settings import ARCHES, BUILD, CONFIG, HERE, KERNEL, REPO, TREES, say
from tree import HOOKED, OVERLAY

# The warnings that W=1 adds to a kernel object (scripts/Makefile.extrawarn), for a program.
W1 = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-sign-compare", "-Wmissing-declarations",
      "-Wmissing-format-attribute", "-Wmissing-prototypes", "-Wold-style-definition",
      "-Wunused-but-set-variable", "-Wunused-const-variable"]
# kselftest_harness.h defines the functions of a fixture without a prototype.
HARNESS = re.compile(r"(previous prototype for|symbol) .\w+_(setup|teardown)")
# What checkpatch says for no reason: how the header of a trace event must look; and a macro that
# has the place of "const", which binary attributes are not on 6.12.
UNFOUNDED = re.compile(
    r"include/trace/\S+ \w+:(COMPLEX_MACRO|PARENTHESIS_ALIGNMENT|OPEN_ENDED_LINE): |"
    r"drivers/iommu/iommu-coherency\.h:\d+: WARNING:CONST_STRUCT: struct bin_attribute ")
# Without them the kernel behaves as the base; the last depends on the one before it.
OPTIONS = ("CONFIG_KVM_MEMTYPE", "CONFIG_DMA_CACHE", "CONFIG_VFIO_MOCK")
# In the name of every function of cache maintenance, also of those that are inlined when it is on.
DMA_CACHE = "dma_cache"
# The modules that maintain caches.
MODULES = ("drivers/iommu/iommufd/iommufd", "drivers/vfio/vfio_iommu_type1",
           "drivers/vhost/vhost_vdpa")
# By architecture: hooked objects that no machine has a use for. What they depend on is configured
# by configs/check_<arch>.config, and not built.
CHECKED_ONLY = {"x86_64": ["drivers/infiniband/hw/usnic/usnic_uiom.o"]}
# What may be tracked; everything else is a mistake.
WHERE = (r"\.checkpatch\.conf|\.gitignore|COPYING|Makefile|README\.md",
         r"\.ci/(run|(gitlab|github)\.yml)",
         # Where GitHub wants its file, in a clone there; the project has none.
         r"\.github/workflows/[a-z-]+\.yml",
         r"(arch|drivers|include|mm|virt)/.+\.[chS]", r".+/(Kconfig(\.\w+)?|Makefile)",
         r"Documentation/(.+\.(rst|graph|svg)|ABI/testing/[a-z0-9_-]+)",
         r"patches/(files\.toml|cover-letter|[\d.]+/(\d{4}-[a-z0-9-]+\.patch|series|tested))",
         r"tools/kvm/memtype/(.+\.[ch]|kvm-memtype\.(bash|schema\.json)|\.gitignore)",
         r"tools/qemu/(version|patches/(\d{4}-[a-z0-9-]+\.patch|series))",
         r"tools/qemu/(accel|configs|include|qapi)/.+\.(c|h|json|mak)",
         r"tools/testing/selftests/(.+\.(c|h)|[a-z]+/(config|settings))",
         r"tools/testing/memtype/([a-z0-9_]+\.(py|toml|c|h|sh)|README\.rst)",
         r"tools/testing/memtype/(cache|renderer|vfio_user)/([a-z0-9_]+\.[chS]|README\.rst)",
         r"tools/testing/memtype/configs/[a-z0-9_.]+\.config",
         r"tools/testing/memtype/mutations/([0-9.]+/)?[a-z0-9-]+\.patch",
         r"tools/testing/memtype/tests/([a-z0-9_]+\.py|[a-z0-9_]+\.[ch]|logs/[a-z-]+\.[a-z]+)")
# Before and after the sample of a report in README.md.
SAMPLE = "<!-- a sample of the report; make test compares it with its own -->"


class Sum(NamedTuple):
    """What came of a part, and what failed of what no report says again."""

    passed: int
    failed: int
    skipped: int
    failures: Sequence[str] = ()


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
    return [line for line in problems if not UNFOUNDED.match(line)]


def kernel_objects(arch: str, kinds: str) -> list[str]:
    """The objects of our sources in the kernel that was built, by the names of make's targets.

    virt/kvm is compiled from within arch/*/kvm, so only kbuild knows what it calls an object.
    """
    commands = [build.objects(arch) / name.parent / f".{name.stem}.o.cmd"
                for name in map(Path, tree.kernel_sources(arch, kinds))]
    return [path.read_text().split(" ", 1)[0].removeprefix("savedcmd_")
            for path in commands if path.exists()]


def fragments(arch: str, *more: str) -> list[Path]:
    """Those of the matrix, what is only checked, and more of configs/."""
    names = [f"check_{arch}"] if arch in CHECKED_ONLY else []
    return build.fragments(arch) + settings.fragments(*names, *more)


def kernel_warnings(arch: str) -> list[str]:
    """gcc W=1 and sparse on the kernel objects that are ours or hooked, in a place of their own.

    In a hooked file, only what is said of our lines counts: the base has warnings too.
    """
    out, linux = BUILD / "check" / f"{arch}-w1", TREES[KERNEL].resolve()
    build.configure(arch, out, files=fragments(arch))
    what, log = f"{arch} sparse and W=1", out / "check.log"
    words: list[str | Path] = ["-C", linux, f"O={out}", "C=1", "W=1"]
    # Before any object, kbuild compiles files of the base, of which it also warns.
    build.make(what, arch, log, *words, "prepare")
    ours, problems, checked = tree.our_lines(), [], 0
    for kind in OVERLAY, HOOKED:
        objects = kernel_objects(arch, kind)
        if kind == HOOKED:
            objects += CHECKED_ONLY.get(arch, [])
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
    listed = settings.output([f"{ARCHES[arch].cross}nm", "--format=posix", *options, path])
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


def other_bases() -> list[str]:
    """Of the bases that this run is not for: hooks and mutations that do not apply, sources that do
    not compile or of which gcc warns."""
    return [line for name in settings.BASES if name != settings.BASE and not settings.KSRC
            for line in run([sys.executable, "-B", HERE / "check.py", "compile"],
                            env={**os.environ, "BASE": name})]


def compile_sources() -> None:
    """Lay the tree, check the trailers, and compile the directories that our sources are in, for
    each architecture; and with OPTIONS off, those that have hooks. What can be a module is one:
    only the matrix of that base builds it into the kernel."""
    tree.lay("patched")
    if problems := trailers():
        settings.fail("\n".join(problems))
    for arch in ARCHES:
        for name, without, kinds in (("compile", (), OVERLAY + HOOKED),
                                     ("compile-off", OPTIONS, HOOKED)):
            out = BUILD / "check" / f"{arch}-{name}"
            build.configure(arch, out, without, fragments(arch, "modules", f"modules_{arch}"))
            sources = tree.kernel_sources(arch, kinds)
            for targets in ["prepare"], sorted({f"{Path(path).parent}/" for path in sources}):
                build.make(f"{settings.BASE} {arch} {name}", arch, out / "check.log", "-C",
                           TREES["patched"], f"O={out}", "KCFLAGS=-Werror", *targets)


def modules() -> list[str]:
    """What maintains caches builds as modules, too: modpost stops at a symbol that is not exported,
    or whose namespace is not imported.

    Only the modules are built. What is exported to them, modpost learns from the kernel that has
    been built, without what they export themselves, because there they are a part of it.
    """
    arch = next(iter(ARCHES))   # the kernels of the others have no modules
    out = BUILD / "check" / f"{arch}-modules"
    build.configure(arch, out, files=fragments(arch, "modules", f"modules_{arch}"))
    objects = [f"{name}.{kind}" for name in MODULES for kind in ("o", "mod")]
    build.make(f"{arch} modules", arch, out / "check.log", "-C", TREES[KERNEL], f"O={out}",
               *objects)
    paths = [out / f"{name}.o" for name in MODULES]
    own = {symbol for path in paths for symbol in symbols(arch, path, "--defined-only")}
    exported = (build.objects(arch) / "vmlinux.symvers").read_text().splitlines(keepends=True)
    others = out / "others.symvers"
    others.write_text("".join(line for line in exported if line.split("\t")[1] not in own))
    return [f"{path.name} uses nothing of {DMA_CACHE}, so this check proves nothing"
            for path in paths if not any(DMA_CACHE in symbol
                                         for symbol in symbols(arch, path, "--undefined-only"))
            ] + run([out / "scripts/mod/modpost", "-M", "-i", others, "-o", os.devnull,
                     *(f"{name}.o" for name in MODULES)], cwd=out)


def program_warnings(arch: str) -> list[str]:
    """gcc with W=1's warnings, and sparse, on our user-space programs."""
    problems = []
    cross = ARCHES[arch].cross
    out = BUILD / "check" / arch
    shutil.rmtree(out, ignore_errors=True)
    # sparse's own wrapper runs both; its model of the machine is that of this one.
    compiler = f"{cross}gcc" if cross else "cgcc"
    sources = tree.our_sources(OVERLAY)
    for path in tables.programs(arch) + [Path("memtype/misbehave"), Path(bench.PROGRAM)]:
        if f"tools/testing/selftests/{path}.c" in sources:
            log = build.selftest_programs(arch, out, [path], f"{path.name} warnings",
                                          f"CC={compiler}", cflags=" ".join(W1))
            problems += [line for line in log.read_text().splitlines()
                         if path.name in line and re.search(r"(warning|error): ", line)
                         and not HARNESS.search(line)]
    host = {*build.DEVICE_SOURCES, *build.ENGINE_SOURCES, *build.PLUGIN_SOURCES}
    for name in build.PROGRAMS + ([] if cross else sorted(host)):
        done = subprocess.run([compiler, *W1, *build.UAPI, "-c", "-o", out / "program.o",
                               TREES["patched"] / name], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        problems += done.stdout.splitlines()
    return problems


def kernel_doc() -> list[str]:
    """Comments that do not describe what they stand above."""
    files = [name for name in tree.overlay_files()
             if name.endswith((".c", ".h"))
             and name.startswith((*tree.KERNEL_DIRECTORIES, "include/"))]
    return run(["perl", TREES["patched"] / "scripts/kernel-doc", "-none", "-Wall", "-Werror",
                *files], cwd=TREES["patched"])


def trailers() -> list[str]:
    """What `make mutate` would refuse, mutations that do not apply, and hooks that cannot be taken
    away by themselves."""
    machines = tables.all_machines()
    tests = tables.all_tests(machines)
    problems = []
    for patch in tree.hooks(REPO / "patches" / settings.BASE) + mutate.mutations():
        try:
            for hook in mutate.read_hooks(patch, machines, tests):
                mutate.changed_commit(hook)
        except mutate.DoesNotApply as error:
            problems.append(f"{patch.name} does not apply: {error}")
        except settings.Error as error:
            problems.append(str(error))
    return problems


def shell() -> list[str]:
    return run(["shellcheck", "-x", *sorted(HERE.glob("*.sh")), REPO / ".ci/run",
                REPO / "tools/kvm/memtype/kvm-memtype.bash"])


def python() -> list[str]:
    files = sorted(HERE.rglob("*.py"))
    with tempfile.TemporaryDirectory() as cache:
        return (run(["/usr/bin/mypy", "--strict", "--no-error-summary", f"--cache-dir={cache}",
                     *files], cwd=HERE)
                + run(["/usr/bin/flake8", "--max-line-length=100", *files], cwd=HERE))


def structural() -> tuple[int, int]:
    """Of the default base, how many patches name no test that goes red without them, and how many
    there are."""
    patches = tree.hooks(REPO / "patches" / next(iter(settings.BASES)))
    trailers = re.compile(rf"^Red-without: ({mutate.STRUCTURE}|{mutate.DOCUMENTS})$", re.M)
    return sum(bool(trailers.search(patch.read_text())) for patch in patches), len(patches)


def documents() -> list[str]:
    """Other reStructuredText that parses, and a README that names only what is there."""
    problems = picture.stale()
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
    said = "{} of the {} patches are only structure".format(*structural())
    if said not in readme:
        problems.append(f"README.md does not say that {said}")
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)", (REPO / "Makefile").read_text(), re.M))
    problems += [f"Makefile: {name} is not in make help" for name in phony - targets]
    return problems


def stray_files() -> list[str]:
    """Tracked files that no list knows: a log, a copy, what an editor left."""
    tracked = settings.output(["git", "-C", REPO, "ls-files"]).splitlines()
    return [f"{name}: nothing belongs there; see WHERE in check.py if it does" for name in tracked
            if not any(re.fullmatch(pattern, name) for pattern in WHERE)]


def upstream_programs() -> list[str]:
    """Programs of upstream's selftests that a machine neither runs nor is said to leave out, or
    that it is said to do both with, or that upstream no longer has."""
    machines = tables.all_machines()
    tests, left_out = tables.all_tests(machines), tables.left_out(machines)
    problems = []
    for arch in ARCHES:
        there = set(build.upstream_programs(arch))
        # Those that stand for the architecture and its vendors in `make compat`.
        for name in [name for name, item in machines.items() if item.arch == arch and item.compat]:
            run = {test.program for test in tests if name in test.machines}
            patterns = [entry.program for entry in left_out if name in entry.machines]
            out = {program for program in there for pattern in patterns
                   if fnmatch.fnmatchcase(program, pattern)}
            problems += [f"{name}: upstream.toml says nothing of {program}"
                         for program in sorted(there - run - out)]
            problems += [f"{name}: runs {program}, which upstream.toml says that it leaves out"
                         for program in sorted(run & out)]
            problems += [f"{name}: upstream has no {pattern}" for pattern in patterns
                         if not fnmatch.filter(there, pattern)]
    return problems


# The checks; those with an argument are for each architecture.
CHECKS: dict[str, Callable[[], list[str]]] = {
    "checkpatch --strict": checkpatch,
    "modules": modules,
    "other bases: hooks and sources": other_bases,
    "kernel-doc": kernel_doc,
    "Sphinx": sphinx.warnings,
    "Red-without and Red-with trailers": trailers,
    "upstream's selftests: each one is in a table": upstream_programs,
    "Python: mypy --strict, flake8": python,
    "shell: shellcheck": shell,
    "documents": documents,
    "files: each one is where it belongs": stray_files,
}
ARCH_CHECKS: dict[str, Callable[[str], list[str]]] = {
    "kernel objects: sparse, W=1": kernel_warnings,
    "options off: no trace of the hooks": option_off,
    "programs: sparse, W=1": program_warnings,
    "exit barrier": barrier.exit_barrier,
}


def run_checks() -> Sum:
    tree.lay("patched")
    checks = dict(CHECKS)
    for arch in ARCHES:
        build.selftests(arch)
        if tree.kernel_sources(arch):
            build.kernel(arch)
            checks |= {f"{arch} {name}": functools.partial(function, arch)
                       for name, function in ARCH_CHECKS.items()}
        else:
            say(f"{arch}: overlay and patches have no kernel sources for it, so no checks")
    failures = []
    for name, check in checks.items():
        try:
            problems = check()
        except settings.Error as error:
            problems = str(error).splitlines()
        say(f"check {name}: {'FAIL' if problems else 'pass'}")
        for problem in problems[:50]:
            say(f"    {problem}")
        if problems:
            failures.append(f"check {name}: {problems[0]}")
    return Sum(len(checks) - len(failures), len(failures), 0, failures)


def run_units() -> Sum:
    """The runner's own tests."""
    # A shell ignores it for its background jobs, and some tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tree.lay("patched")
    found = unittest.defaultTestLoader.discover(str(HERE / "tests"))
    outcome = unittest.TextTestRunner(sys.stdout, verbosity=2).run(found)
    failures = [f"unit test {test.id()}: {trace.splitlines()[-1]}"
                for test, trace in outcome.failures + outcome.errors]
    return Sum(outcome.testsRun - len(failures) - len(outcome.skipped), len(failures),
               len(outcome.skipped), failures)


def run_matrix() -> Sum:
    """Builds and boots; what comes of it is printed at the end."""
    matrix.run_matrix(*tables.select())
    return Sum(0, 0, 0)


def report_matrix() -> Sum:
    report.report()
    ran = summary.load()
    counts = summary.counts(ran["results"])
    stale = []
    whole = not settings.MACHINE and not settings.TEST and not any(
        result["suite"] == BOOT and result["status"] == SKIP for result in ran["results"])
    if whole and counts.good():
        stale = stale_sample((REPO / "README.md").read_text(),
                             report.text(ran, report.Terminal(plain=True)))
    else:
        say("README.md's sample is not compared: this is not all of a matrix that passed")
    return Sum(counts.passed, counts.failed + bool(stale),
               counts.skipped + counts.xfailed + counts.not_run,
               [f"README.md shows a line that is not in this report: {line}" for line in stale])


def squeezed(line: str) -> str:
    """A line of the report without its layout, and without the sums and times of machines."""
    return " ".join(re.sub(r"[─│┐]|\d+ passed, +\d+ s\b", " ", line).split())


def stale_sample(readme: str, text: str) -> list[str]:
    """The lines of README's sample that the report does not have."""
    lines = {squeezed(line) for line in text.splitlines()}
    sample = readme.split(SAMPLE)[1].splitlines()
    return [line.strip() for line in sample
            if squeezed(line) not in ("", "...") and squeezed(line) not in lines]


def run_parts(*parts: Callable[[], Sum]) -> int:
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
            sums.append(Sum(0, 1, 0, [f"error: {error}"]))
    # Again at the end, which is what is read first, and all that some CI systems keep.
    for line in [failure for one in sums for failure in one.failures]:
        say(line)
    passed, failed, skipped = (sum(column) for column in zip(*[one[:3] for one in sums]))
    say(f"took {(time.monotonic() - start) / 60:.1f} minutes")
    say(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def test() -> int:
    """Everything that must pass: unit tests, checks, the matrix."""
    # Machines of one architecture run while the kernel of another is built.
    return run_parts(run_matrix, run_units, run_checks, report_matrix)


def check() -> int:
    """Style and static checks."""
    return run_parts(run_checks)


def unit() -> int:
    """The runner's own unit tests."""
    return run_parts(run_units)


if __name__ == "__main__":
    settings.main({"test": test, "check": check, "unit": unit, "compile": compile_sources}, __doc__)
