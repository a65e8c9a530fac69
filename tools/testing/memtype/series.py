# SPDX-License-Identifier: GPL-2.0-only
"""`make series`: the patches as one would mail them, each with the new files that it brings.

Here the overlay is one commit and the patches hook it in. A reviewer wants the files with the hooks
that go with them. patches/files.toml says which patch brings which files, for all bases; a patch
without a diff is the message for files alone. `make bisect` builds each of these commits.
"""

from __future__ import annotations

import fnmatch
import re
import shutil
import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import build
import matrix
import mutate
import settings
import tables
import tree
from results import GOOD, KUNIT
from settings import ARCHES, BUILD, OUT, REPO, SENDER, TREES, fail, say
from tree import git

FILES = REPO / "patches/files.toml"
COVER = REPO / "patches/cover-letter"
# What a commit may have beside tests and documents, in lines.
MOST_LINES = 600
TESTS = ("Documentation/", "tools/testing/", "*_kunit.c", "*_test.[ch]", "*_probe.[ch]",
         "*selftest*", "*mock*")
# The machines that `make bisect` boots, one for each architecture.
BOOTED = {"x86_64": "x86-amd", "arm64": "arm64-fwb"}


@dataclass
class Step:
    """A commit of the series."""
    patch: Path
    group: str
    commit: str
    last: bool      # of its group


def files_of(series: list[str]) -> dict[str, list[str]]:
    """Patch of the series → the overlay's files that it brings. Files of a patch that this base
    does not have are nobody's."""
    table: dict[str, list[str]] = tomllib.loads(FILES.read_text())
    known = {path.name for path in (REPO / "patches").glob("*/*.patch")}
    for number in table:
        if not any(name.startswith(f"{number}-") for name in known):
            fail(f"{FILES}: there is no patch {number}")
    found: dict[str, list[str]] = {name: [] for name in series}
    for file in tree.overlay_files():
        owners = [number for number, patterns in table.items()
                  if any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns)]
        if len(owners) != 1:
            fail(f"{FILES}: {file} belongs to {' and '.join(owners) or 'no patch'}")
        for name in series:
            if name.startswith(f"{owners[0]}-"):
                found[name].append(file)
    return found


def sender() -> tuple[str, str] | None:
    """SENDER= as name and address."""
    if not SENDER:
        return None
    match = re.fullmatch(r"([^<>\n]*\S) <(\S+@\S+)>", SENDER)
    if not match:
        fail(f"SENDER={SENDER}: must look like “Your Name <you@example.org>”")
    return match[1], match[2]


def compose(onto: tree.Base) -> list[Step]:
    """The commits, each on the one before it, and the first on the base."""
    index = TREES["patched"] / ".git/memtype-series.index"
    groups = tree.read_series(onto.patches)
    files = files_of([name for group in groups for name in group.patches])
    who, commit = sender(), onto.commit
    git("read-tree", commit, index=index)
    steps = []
    for group in groups:
        for name in group.patches:
            if files[name]:
                tree.add_files(index, files[name])
            commit = tree.commit_patch(commit, index, onto.patches / name, who, mailed=True)
            steps.append(Step(onto.patches / name, group.title, commit,
                              name == group.patches[-1]))
    check_end(onto, commit, [file for brought in files.values() for file in brought])
    return steps


def check_end(onto: tree.Base, commit: str, brought: list[str]) -> None:
    """The end is the tree that is tested, but for files that are nobody's on this base."""
    tested = tree.compose(onto, "patched")
    different = set(git("diff", "--name-only", tested, commit).splitlines())
    different -= set(tree.overlay_files()) - set(brought)
    if different:
        fail(f"the series does not end with the tree that is tested: {', '.join(different)}")


def lines(commit: str) -> int:
    """How many lines a commit adds that are neither tests nor documents."""
    total = 0
    for line in git("show", "--numstat", "--no-renames", "--format=", commit).splitlines():
        added, _, name = line.split("\t")
        if not any(fnmatch.fnmatchcase(name, f"{pattern}*") for pattern in TESTS):
            total += int(added)
    return total


def too_long(steps: list[Step]) -> list[str]:
    return [f"{step.patch.name}: {added} lines" for step in steps
            if (added := lines(step.commit)) > MOST_LINES]


def cover_letter(template: str, onto: tree.Base, steps: list[Step]) -> str:
    """The headers that git made, our words, the table of contents by groups, and the size."""
    title, body = COVER.read_text().split("\n", 1)
    contents = ""
    for number, step in enumerate(steps, 1):
        if number == 1 or steps[number - 2].group != step.group:
            contents += f"\n{step.group}\n"
        contents += f"  {number:2}  {tree.subject(step.patch)}\n"
    size = git("diff", "--shortstat", "--no-renames", onto.commit, steps[-1].commit)
    head = template.split("\n\n")[0].replace("*** SUBJECT HERE ***", title)
    return f"{head}\n\n{body.strip()}\n\nBase: {onto.version}\n{contents}\n{size}\n"


def series() -> None:
    """Write the cover letter and the commits, as one would mail them, to OUT/series."""
    onto, who = tree.lay("patched"), sender()
    steps = compose(onto)
    out = OUT / "series"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    # The cover letter is the committer's.
    env = {"GIT_COMMITTER_NAME": who[0], "GIT_COMMITTER_EMAIL": who[1]} if who else {}
    git("format-patch", "-q", "-n", "--zero-commit", "--no-signature", "--no-renames",
        "--cover-letter", "--cover-from-description=none", "-o", out,
        f"{onto.commit}..{steps[-1].commit}",
        env={**env, "GIT_COMMITTER_DATE": f"@{int(time.time())} +0000"})
    cover, *patches = sorted(out.glob("*.patch"))
    cover.write_text(cover_letter(cover.read_text(), onto, steps))
    mailbox = OUT / f"memtype-{onto.patches.name}.mbox"
    mailbox.write_bytes(b"".join(path.read_bytes() + b"\n" for path in patches))
    for line in too_long(steps):
        say(f"note: longer than {MOST_LINES} lines without tests and documents: {line}")
    say(f"{out}: a cover letter and {len(patches)} patches on {onto.version}, for git send-email\n"
        f"{mailbox}: the patches, for git am")


def bisect() -> int:
    """Build each commit of the series, or those of HOOK=, and boot the last one of each group."""
    onto = tree.lay("patched")
    steps = compose(onto)
    wanted = set(mutate.chosen([step.patch.name for step in steps]))
    machines = tables.all_machines()
    # The tables know which tests the whole series skips; an earlier commit has fewer tests.
    tests = [replace(test, skips={}) for test in tables.all_tests(machines) if test.suite == KUNIT]
    progress = matrix.Progress([step.patch.name for step in steps])
    for arch in ARCHES:         # for what machines boot with
        matrix.build_for(arch, "")
    bad = 0
    good: set[str] = set()      # the architectures that the commit before was good for
    # A step boots with the programs of the whole series.
    with mutate.checked_out(steps[0].commit, programs=False):
        for step in steps:
            if step.patch.name not in wanted:
                good.clear()
                continue
            # From one step to the next, make sees only what this one changes.
            mutate.checkout(step.commit)
            for arch in ARCHES:
                same = arch in good and not step.last and not concerns(step, arch)
                problem = "" if same else try_step(step, arch, machines, tests, progress)
                bad += bool(problem)
                (good.discard if problem else good.add)(arch)
                progress(step.patch.name, arch,
                         problem or ("good: as the one before" if same else "good"))
    say(f"bisect: {len(wanted) * len(ARCHES) - bad} of {len(wanted) * len(ARCHES)} builds good")
    return 1 if bad else 0


def concerns(step: Step, arch: str) -> bool:
    """Whether a commit changes what a kernel for an architecture is built from."""
    others = tuple(f"arch/{other.kernel}/" for name, other in ARCHES.items() if name != arch)
    changed = git("diff", "--name-only", f"{step.commit}~", step.commit).splitlines()
    return any(not name.startswith(("Documentation/", "tools/", *others)) for name in changed)


def try_step(step: Step, arch: str, machines: dict[str, tables.Machine],
             tests: list[tables.Test], progress: matrix.Progress) -> str:
    """What is wrong with a commit, which is checked out."""
    out = BUILD / "bisect" / arch
    image = out / ARCHES[arch].image
    try:
        build.configure(arch, out, partly=True)
        build.make(f"{step.patch.name} {arch}", arch, out / "build.log", "-C", TREES["patched"],
                   f"O={out}", "KCFLAGS=-Werror", image.name if step.last else "vmlinux")
    except settings.Error as error:
        return str(error)
    if not step.last:
        return ""
    _, results = matrix.run_one(machines[BOOTED[arch]], tests, image, progress, OUT / "bisect")
    failed = [result for result in results if result.status not in GOOD]
    return f"{failed[0].suite}: {failed[0].test}: {failed[0].reason}" if failed else ""


if __name__ == "__main__":
    settings.main({"series": series, "bisect": bisect}, __doc__)
