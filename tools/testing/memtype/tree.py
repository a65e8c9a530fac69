# SPDX-License-Identifier: GPL-2.0-only
"""The kernel trees: base, overlay and patches as commits of one git repository under BUILD.

    refs/memtype/base-KERNEL     the base, as its source has it
    refs/memtype/laid-KERNEL     + one commit for the overlay + one commit per patch, as last laid
    memtype (BUILD/linux)        where a developer goes on from there, KERNEL=patched
    memtype-base (linux-base)    the same with the test instruments only, KERNEL=base

Identity and dates of these commits depend on their content alone. So the same input always gives
the same commit, "is the tree up to date" is one comparison, and git touches only the files that
differ, which keeps kbuild's incremental builds. Where both a tree and what it is made from have
changed, nothing is overwritten: laying, refreshing and cleaning stop with an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import debian
import settings
from settings import ARCHES, BUILD, KSRC, OUT, REPO, TREES, fail, output, say

# The directories of the repository that are not laid over the kernel tree.
ASIDE = (".ci/", ".github/", "patches/", "tools/qemu/", "tools/testing/memtype/mutations/")
INSTRUMENTS = "test instruments"
DEBIAN = "refs/memtype/debian"      # the unpacked source package
BRANCHES = {"patched": "memtype", "base": "memtype-base"}
# How the subject of a commit starts that `make mutate` checks out.
MUTATED = "make mutate:"
# Where kernel objects are built; the rest of our C is programs.
KERNEL_DIRECTORIES = ("arch/", "drivers/", "mm/", "virt/", "lib/", "kernel/")
# Of `git diff --diff-filter`: files of ours, and files of the kernel that our patches touch.
OVERLAY, HOOKED = "A", "M"
# The same bytes whatever the user's git configuration says.
IDENTITY = {"GIT_AUTHOR_NAME": "memtype", "GIT_AUTHOR_EMAIL": "memtype@localhost",
            "GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_NAME": "memtype",
            "GIT_COMMITTER_EMAIL": "memtype@localhost", "GIT_COMMITTER_DATE": "@0 +0000"}
GIT_ENV = {**os.environ, **IDENTITY,
           "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
OVERLAY_MESSAGE = """memtype: add guest memory types and DMA cache maintenance

All new files of the project, at their place in the kernel tree. The
patches that follow hook them in.

Signed-off-by: {GIT_AUTHOR_NAME} <{GIT_AUTHOR_EMAIL}>
"""


@dataclass
class Base:
    """What the patches are applied to."""
    commit: str
    version: str
    patches: Path

    @property
    def tested(self) -> str:
        """The last release that the patches are known good with."""
        return (self.patches / "tested").read_text().strip()

    def note(self) -> str:
        """What a user must know about this base; empty if it is the tested one."""
        if self.version == self.tested:
            return ""
        return f"base is {self.version}; the patches were last tested with {self.tested}"


def git(*args: str | Path, tree: Path = TREES["patched"], index: Path | None = None,
        text: str | None = None, env: dict[str, str] | None = None) -> str:
    environment = {**GIT_ENV, **(env or {})}
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    return output(["git", "-C", tree, *args], env=environment, input=text).rstrip("\n")


def exists(ref: str) -> bool:
    """Whether the ref is there, and with it the repository."""
    return (TREES["patched"] / ".git").exists() and bool(
        git("for-each-ref", "--format=%(refname)", ref))


def patch_directory(version: str) -> Path:
    """The patches for a kernel release, or an error that lists what there is."""
    name = settings.base_name(version)
    if name not in settings.BASES:
        fail(f"no patches for kernel {version}; supported: {', '.join(settings.BASES)}")
    return REPO / "patches" / name


def init_repository() -> None:
    tree = TREES["patched"]
    if (tree / ".git").exists():
        return
    tree.mkdir(parents=True, exist_ok=True)
    git("init", "-q", "-b", BRANCHES["patched"])
    # 90,000 files once: time matters here and space does not.
    for key, value in (("core.looseCompression", "0"), ("gc.auto", "0"), ("core.abbrev", "12")):
        git("config", key, value)


def commit_base(index: Path, message: str) -> str:
    """Makes a base commit from an index; the same content gives the same commit."""
    ignore = git("show", ":.gitignore", index=index) if git(
        "ls-files", ".gitignore", index=index) else ""
    # Debian's source package hides its whole tree from git ("ignore everything at the top level").
    if "/*" in ignore.splitlines():
        kept = [line for line in ignore.splitlines() if line not in ("/*", "!/debian/")]
        blob = git("hash-object", "-w", "--stdin", text="\n".join(kept) + "\n")
        git("update-index", "--cacheinfo", f"100644,{blob},.gitignore", index=index)
    return git("commit-tree", git("write-tree", index=index), text=message)


def import_tree(source: Path, message: str) -> str:
    """Commits the files of `source`, which is only read: git's own files lie under BUILD."""
    index = TREES["patched"] / ".git/memtype-import.index"
    where = {"GIT_DIR": str(TREES["patched"] / ".git"), "GIT_WORK_TREE": str(source)}
    if (source / ".git").exists():
        # Tracked files as they are now, edits included, build products excluded.
        files = output(["git", "-C", source, "ls-files", "-z"])
        known = git("ls-files", "-z", index=index) if index.exists() else ""
        gone = set(known.split("\0")) - set(files.split("\0"))
        git("update-index", "--force-remove", "-z", "--stdin", tree=source, index=index,
            text="".join(f"{name}\0" for name in gone), env=where)
        git("update-index", "--add", "--remove", "-z", "--stdin", tree=source, index=index,
            text=files, env=where)
    else:
        git("add", "-A", "-f", tree=source, index=index, env=where)
    return commit_base(index, message)


def import_debian() -> str:
    """Debian's source package as the base; unpacked again only when the package changed."""
    tarball = debian.kernel_source(settings.BASES[settings.BASE])
    package = settings.BASES[settings.BASE].package
    stamp = tarball.stat()
    message = f"{package} ({tarball.name}, {stamp.st_size} bytes, {stamp.st_mtime_ns})"
    if not exists(DEBIAN) or git("log", "-1", "--format=%s", DEBIAN) != message:
        say(f"unpacking {tarball}")
        with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
            output(["tar", "-x", "-f", tarball, "-C", scratch, "--strip-components=1"])
            git("update-ref", DEBIAN, import_tree(Path(scratch), message))
    return git("rev-parse", DEBIAN)


def import_ksrc() -> str:
    """A tree of the user's as the base."""
    source = Path(KSRC).absolute()
    try:
        version = settings.kernel_version((source / "Makefile").read_text(), source)
    except OSError as error:
        fail(f"{source} is not a kernel tree: {error}")
    patch_directory(version)
    if not (source / ".git").exists() and (
            (source / ".config").exists() or (source / "include/config").exists()):
        fail(f"{source} was built in place, and kbuild then refuses to build it elsewhere: "
             "run `make mrproper` there or name a clean tree")
    return import_tree(source, f"KSRC {version}")


def base_of(commit: str) -> Base:
    version = settings.kernel_version(git("show", f"{commit}:Makefile"), commit)
    return Base(commit, version, patch_directory(version))


def base() -> Base:
    init_repository()
    return base_of(import_ksrc() if KSRC else import_debian())


@dataclass
class Group:
    """A heading of the series file and the patches below it."""
    comments: list[str]
    patches: list[str]

    @property
    def title(self) -> str:
        return self.comments[0].lstrip("# ") if self.comments else ""


def read_series(directory: Path) -> list[Group]:
    groups = [Group([], [])]
    for line in (directory / "series").read_text().splitlines():
        if not line.strip():
            continue
        if line.startswith("#"):
            if groups[-1].patches:
                groups.append(Group([], []))
            groups[-1].comments.append(line)
        elif (directory / line).exists():
            groups[-1].patches.append(line)
        else:
            fail(f"{directory / 'series'} names {line}, which is not there")
    return groups


def hooks(directory: Path) -> list[Path]:
    """The patches of a base that hook something in, in their order."""
    paths = [directory / name for group in read_series(directory) for name in group.patches]
    return [path for path in paths if has_diff(path)]


def overlay_files() -> list[str]:
    """The repository's files that are laid over the kernel tree, uncommitted ones included."""
    listed = output(["git", "-C", REPO, "ls-files", "-z", "--cached", "--others",
                     "--exclude-standard"]).split("\0")
    return sorted(name for name in set(listed) if "/" in name and not name.startswith(ASIDE)
                  and (REPO / name).is_file()
                  and not any((REPO / name).is_relative_to(made) for made in (BUILD, OUT)))


def project_start() -> dict[str, str]:
    """Author and date of the repository's first commit, for the overlay's: they never change."""
    name, email, date = output(["git", "-C", REPO, "log", "--max-parents=0",
                                "--format=%an%n%ae%n%aD"]).splitlines()[:3]
    return {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email, "GIT_AUTHOR_DATE": date}


def add_files(index: Path, files: list[str]) -> None:
    """Puts files of the repository into an index."""
    blobs = git("hash-object", "-w", "--stdin-paths", tree=TREES["patched"],
                text="\n".join(str(REPO / name) for name in files)).splitlines()
    modes = ["100755" if os.access(REPO / name, os.X_OK) else "100644" for name in files]
    git("update-index", "--add", "--index-info", index=index,
        text="".join(f"{mode} {blob}\t{name}\n" for mode, blob, name in zip(modes, blobs, files)))


def commit_overlay(parent: str, index: Path) -> str:
    files = overlay_files()
    known = set(git("ls-tree", "-r", "--name-only", parent).splitlines())
    twice = known.intersection(files)
    if twice:
        fail(f"overlay files that the base has too (use a patch): {', '.join(sorted(twice))}")
    add_files(index, files)
    start = project_start()
    return git("commit-tree", "-p", parent, git("write-tree", index=index),
               text=OVERLAY_MESSAGE.format(**start), env=start)


def has_diff(patch: Path) -> bool:
    """Whether a patch hooks anything in: one that does not is the message for new files alone."""
    return "\ndiff --git " in patch.read_bytes().decode()


def commit_patch(parent: str, index: Path, patch: Path, sender: tuple[str, str] | None = None,
                 mailed: bool = False) -> str:
    """Applies one patch to the index, with no fuzz, and commits it under its own author, or as of
    a sender's name and address. What is mailed does not name the tests of this repository."""
    with tempfile.TemporaryDirectory() as scratch:
        message, diff = Path(scratch) / "message", Path(scratch) / "diff"
        # Not in text mode: a hook may be into a file with CRLF line ends.
        info = git("mailinfo", message, diff, text=patch.read_bytes().decode())
        head = dict(line.split(": ", 1) for line in info.splitlines() if ": " in line)
        try:
            if has_diff(patch):
                git("apply", "--cached", diff, index=index)
        except settings.Error as error:
            where = re.findall(r"patch failed: (.*):(\d+)", str(error))
            hunks = "".join(f"\n  {name}: the hunk at line {line}" for name, line in where)
            fail(f"{patch} does not apply (fuzz 0):{hunks or f' {error}'}")
        body = message.read_text()
    if mailed:
        body = re.sub(r"^Red-without:.*\n", "", body, flags=re.M)
    name, email = head["Author"], head["Email"]
    if sender:
        body = body.replace(f"Signed-off-by: {name} <{email}>", "Signed-off-by: {} <{}>".format(
            *sender))
        name, email = sender
    who = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email,
           "GIT_AUTHOR_DATE": head["Date"], "GIT_COMMITTER_DATE": head["Date"]}
    return git("commit-tree", "-p", parent, git("write-tree", index=index),
               text=f"{head['Subject']}\n\n{body}", env=who)


def compose(onto: Base, kernel: str) -> str:
    """The commit that the repository stands for: base, overlay, patches."""
    index = TREES["patched"] / f".git/memtype-{kernel}.index"
    git("read-tree", onto.commit, index=index)
    commit = commit_overlay(onto.commit, index)
    for group in read_series(onto.patches):
        if kernel == "patched" or group.title == INSTRUMENTS:
            for patch in [onto.patches / name for name in group.patches]:
                if has_diff(patch):
                    commit = commit_patch(commit, index, patch)
    return commit


def dirty(kernel: str) -> str:
    return git("status", "--porcelain", tree=TREES[kernel])


def base_ref(kernel: str = "patched") -> str:
    """The base that a tree was last laid on."""
    return f"refs/memtype/base-{kernel}"


def laid_ref(kernel: str = "patched") -> str:
    """The commit that was last laid into a tree; what differs from it is a developer's."""
    return f"refs/memtype/laid-{kernel}"


def our_lines() -> set[tuple[str, int]]:
    """File and number of each line that our commits have and the base has not."""
    lines: set[tuple[str, int]] = set()
    name = ""
    for line in git("diff", "--no-renames", "-U0", base_ref(), "HEAD").splitlines():
        hunk = re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line)
        if line.startswith("+++ b/"):
            name = line[6:]
        elif hunk:
            start = int(hunk[1])
            lines.update((name, number) for number in range(start, start + int(hunk[2] or 1)))
    return lines


def our_sources(kinds: str = OVERLAY + HOOKED) -> list[str]:
    """C files of ours, and files of the kernel that our patches touch."""
    changed = git("diff", "--no-renames", "--name-only", f"--diff-filter={kinds}",
                  base_ref(), "HEAD").splitlines()
    return [name for name in changed if name.endswith(".c")]


def kernel_sources(arch: str, kinds: str = OVERLAY + HOOKED) -> list[str]:
    """Those of our sources that are a part of the kernel, and not of another architecture's."""
    own = f"arch/{ARCHES[arch].kernel}/"
    return [name for name in our_sources(kinds) if name.startswith(KERNEL_DIRECTORIES)
            and (name.startswith(own) or not name.startswith("arch/"))]


def own_work(kernel: str) -> bool:
    """Whether a tree holds a developer's commits or edits."""
    return bool(dirty(kernel)) or (
        git("rev-parse", "HEAD", tree=TREES[kernel]) != git("rev-parse", laid_ref(kernel)))


def refuse_own_work(kernel: str) -> None:
    """Stops if a tree holds work that would be lost when it is laid anew."""
    tree = TREES[kernel]
    if exists(laid_ref(kernel)) and own_work(kernel):
        fail(f"{tree} has changes of its own, and what it is made from changed too.\n"
             "  Undo one of the two: put the repository (or the base) back as it was and run "
             f"`make refresh`,\n  or drop the tree's changes with `git -C {tree} reset --hard "
             f"{laid_ref(kernel)}`.")


def undo_mutate() -> None:
    """Checks the branch out again if `make mutate` was killed before it could."""
    tree, branch = TREES["patched"], BRANCHES["patched"]
    if not exists(laid_ref()) or not git("log", "-1", "--format=%s").startswith(MUTATED):
        return
    if dirty("patched"):
        fail(f"make mutate was killed and left {tree} without one of the patches, and with "
             f"uncommitted changes:\n{dirty('patched')}\n"
             f"  Drop them with `git -C {tree} checkout -f {branch}`, or take them along without "
             "-f.")
    say(f"note: make mutate was killed; checking {branch} out again in {tree}")
    git("checkout", "-q", branch)
    # make would not see that their Makefile is another.
    shutil.rmtree(BUILD / "selftests", ignore_errors=True)


def lay(kernel: str = settings.KERNEL) -> Base:
    """Brings the tree of `kernel` up to date with base, overlay and patches."""
    undo_mutate()
    onto = base()
    if onto.note():
        say(f"note: {onto.note()}")
    tip = compose(onto, kernel)
    tree, laid = TREES[kernel], laid_ref(kernel)
    if not exists(laid) or not tree.exists():
        say(f"laying overlay and patches over {onto.version} in {tree}")
        if kernel == "patched":
            git("update-ref", f"refs/heads/{BRANCHES[kernel]}", tip)
            git("reset", "-q", "--hard", tip)
        else:
            shutil.rmtree(tree, ignore_errors=True)
            # Git locks one that it is making; who interrupts that leaves it behind, locked.
            shutil.rmtree(TREES["patched"] / ".git/worktrees", ignore_errors=True)
            git("worktree", "add", "-q", "-f", "-B", BRANCHES[kernel], tree, tip)
    elif git("rev-parse", laid) != tip:
        refuse_own_work(kernel)
        git("reset", "-q", "--hard", tip, tree=tree)
    elif own_work(kernel):
        say(f"note: {tree} has changes that are not in the repository yet (make refresh)")
    git("update-ref", base_ref(kernel), onto.commit)
    git("update-ref", laid, tip)
    return onto


def slug(subject: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:60].strip("-")


def refresh() -> None:
    """Turn the commits of BUILD/linux back into overlay files and patches."""
    tree = TREES["patched"]
    if not exists(laid_ref()):
        fail(f"there is no tree in {tree} yet: make series")
    undo_mutate()
    if dirty("patched"):
        fail(f"{tree} has uncommitted changes: commit them there first\n{dirty('patched')}")
    onto, head = base_of(git("rev-parse", base_ref())), git("rev-parse", "HEAD")
    if compose(onto, "patched") != git("rev-parse", laid_ref()):
        fail(f"the repository changed since it was laid into {tree}, and a refresh would undo "
             "that: put it back as it was (git stash), refresh, and change it again")
    changes = git("diff", "--no-renames", "--name-status", "-z", onto.commit, head).split("\0")
    status = dict(zip(changes[1::2], changes[0::2]))
    added = [name for name, kind in status.items() if kind == "A"]
    hooked = [name for name, kind in status.items() if kind != "A"]
    patches = format_patches(onto, hooked)

    for name in set(overlay_files()) - set(added):
        say(f"removed {name}")
        (REPO / name).unlink()
    for name in added:
        write(REPO / name, subprocess.run(
            ["git", "-C", tree, "show", f"{head}:{name}"], check=True, env=GIT_ENV,
            stdout=subprocess.PIPE).stdout)
        executable = git("ls-tree", head, name).startswith("100755")
        (REPO / name).chmod(0o755 if executable else 0o644)
    write_series(onto.patches, patches)

    tip = compose(onto, "patched")
    if git("rev-parse", f"{tip}^{{tree}}") != git("rev-parse", f"{head}^{{tree}}"):
        fail("the refreshed overlay and patches do not give the tree that they were made from")
    git("reset", "-q", "--soft", tip)
    git("update-ref", laid_ref(), tip)
    say(f"{REPO}: {len(added)} overlay files, {len(hooked)} hooked files, up to date")


def write(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        say(f"updated {path.relative_to(REPO)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def format_patches(onto: Base, hooked: list[str]) -> dict[str, bytes]:
    """Subject → patch of each commit that touches a file of the base, in their order."""
    patches: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if hooked:
            git("format-patch", "-q", "--zero-commit", "--no-signature", "-N", "--no-renames",
                "-o", scratch, f"{onto.commit}..HEAD", "--", *hooked)
        for path in sorted(Path(scratch).iterdir()):
            title = subject(path)
            if title in patches:
                fail(f"two commits have the subject “{title}”: a patch is known by its subject")
            patches[title] = path.read_bytes()
    return patches


def write_series(directory: Path, patches: dict[str, bytes]) -> None:
    """Writes the patches and the series file.

    A patch keeps its file name as long as its subject stays; a new one takes the next free number
    and the group of the patch before it.
    """
    groups = read_series(directory)
    order = [(name, group) for group in groups for name in group.patches]
    known = {subject(directory / name): (name, group) for name, group in order}
    number = max((int(name[:4]) for name, _ in order), default=0)
    # Messages for new files alone are not in the tree's history: each stays behind what it is
    # behind now.
    followers: dict[str, list[str]] = {}
    for group in groups:
        before = group.title
        for name in group.patches:
            if has_diff(directory / name):
                before = name
            else:
                followers.setdefault(before, []).append(name)
        group.patches = followers.get(group.title, [])
    current = groups[0]
    for title, content in patches.items():
        if title in known:
            name, current = known[title]
        else:
            number += 1
            name = f"{number:04d}-{slug(title)}.patch"
        current.patches += [name, *followers.get(name, [])]
        write(directory / name, content)
    kept = {name for group in groups for name in group.patches}
    for name, _ in order:
        if name not in kept:
            say(f"removed {name}")
            (directory / name).unlink()
    blocks = ["\n".join(group.comments + group.patches) for group in groups
              if group.comments or group.patches]
    write(directory / "series", ("\n\n".join(blocks) + "\n").encode())


def subject(patch: Path) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        info = git("mailinfo", Path(scratch) / "m", Path(scratch) / "p", tree=Path(scratch),
                   text=patch.read_bytes().decode())
    return next(line[9:] for line in info.splitlines() if line.startswith("Subject: "))


def export(destination: str) -> None:
    """Write a patched tree to DEST, without any git repository."""
    target = Path(destination).absolute()
    if not destination:
        fail("say where to: make tree DEST=/path")
    if target.exists() and any(target.iterdir()):
        fail(f"{target} is not empty")
    lay("patched")
    target.mkdir(parents=True, exist_ok=True)
    index = TREES["patched"] / ".git/memtype-export.index"
    git("read-tree", "HEAD", index=index)
    git("checkout-index", "-a", f"--prefix={target}/", index=index)
    say(f"{target}: configure and build as any kernel tree")


if __name__ == "__main__":
    settings.main({"refresh": refresh, "export": export}, __doc__)
