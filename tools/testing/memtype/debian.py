# SPDX-License-Identifier: GPL-2.0-only
"""What machines need beside a kernel: Debian packages of other architectures and suites.

They come from the archive that this Debian itself comes from, by a package state of their own, and
are only unpacked, below BUILD. And whether an installed emulator is one that can be used.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from settings import ARCHES, BUILD, SHARED, Error, Source, fail, output, say

# What a cross-built package of headers is linked with (deb.py).
LIBSSL = "libssl-dev"
# What the Debian archive is signed with, on every Debian.
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Where a QEMU may be that this Debian lacks, by its major version: suites that are used together,
# of which the last one goes first.
SUITES: dict[int, list[tuple[str, ...]]] = {
    10: [("{codename}", "{codename}-backports")],
    11: [("stable", "stable-backports"), ("unstable",)],
}
# It is started with the libraries, the firmware and the modules that were unpacked with it.
START = """\
#!/bin/sh
root=${{0%/*}}/root
libraries=$root/usr/lib/{triplet}
export QEMU_MODULE_DIR="$libraries/qemu"
exec "$root/{loader}" --library-path "$libraries:$root/lib/{triplet}" "$root/usr/bin/${{0##*/}}" \\
    -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@"
"""
# Machines that start at the same time may need the same one.
MAKING = threading.Lock()


class Unavailable(Error):
    """What a machine needs cannot be had here: its tests are skipped, for this reason."""

    @classmethod
    def after(cls, what: str, error: Exception) -> Unavailable:
        """With the one line that says why, of all that a command said."""
        lines = str(error).splitlines()
        why = next((line for line in lines if line.startswith("E: ")), lines[-1])
        return cls(f"needs {what}, which cannot be had: {why}")


def apt_get(state: Path, *options: str) -> list[str]:
    """The command with fresh lists and a package state of our own: the user's is left alone."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    command = ["apt-get", "-o", f"Dir::State={state}/state",
               "-o", f"Dir::State::status={state}/status", "-o", f"Dir::Cache={state}/cache",
               "-o", "APT::Sandbox::User=root", "-o", "APT::Update::Error-Mode=any", *options]
    output([*command, "update"])
    return command


def architecture(arch: str) -> list[str]:
    """apt-get's options for packages of an architecture."""
    name = ARCHES[arch].debian
    return ["-o", f"APT::Architecture={name}", "-o", f"APT::Architectures={name}"]


def download(package: str, state: Path, *options: str) -> Path:
    """A Debian package."""
    output([*apt_get(state, *options), "download", package], cwd=state)
    return next(state.glob(f"{package}_*.deb"))


def once(root: Path, fill: Callable[[Path], None]) -> Path:
    """A directory that `fill` has filled. If it fails, or is interrupted, there is none."""
    if not root.exists():
        fresh = root.with_name(f"{root.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        fill(fresh)
        fresh.rename(root)
    return root


def unpacked(package: str, arch: str, suites: Sequence[str] = ()) -> Path:
    """Where a package of an architecture is unpacked, of the first of these suites that has it, or
    else of those that this machine uses."""
    out = SHARED / package

    def fill(fresh: Path) -> None:
        say(f"  downloading the {arch} {package}")
        state, options = out / f"apt-{arch}", architecture(arch)
        output(["dpkg", "-x", from_suites(package, suites, state, *options) if suites else
                download(package, state, *options), fresh])

    return once(out / arch, fill)


def busybox(arch: str) -> Path:
    """A static shell for `make shell`; another architecture's package is only unpacked here."""
    if not ARCHES[arch].cross:
        return Path("/bin/busybox")
    return unpacked("busybox-static", arch) / "bin/busybox"


def qemu_major(program: Path) -> int:
    """The first number of a QEMU's version; 0 if it does not run."""
    done = subprocess.run([program, "--version"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=False)
    match = re.search(r"version (\d+)", done.stdout)
    return int(match[1]) if match else 0


def archive() -> tuple[str, str]:
    """Where this Debian itself comes from: the archive and the code name."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    archives = output(["apt-get", "indextargets", "--format", "$(REPO_URI)",
                       "Created-By: Packages", "Origin: Debian", "Label: Debian",
                       "Component: main", f"Codename: {codename}"]).split()
    if not archives:
        fail(f"apt has no package list of “Debian {codename} main”")
    return archives[0], codename


def sources(out: Path, *suites: str, kind: str = "deb") -> list[str]:
    """apt-get's options for these suites of the archive that this Debian itself comes from."""
    mirror, _ = archive()
    out.mkdir(parents=True, exist_ok=True)
    listed = out / "sources.list"
    listed.write_text("".join(f"{kind} [signed-by={KEYRING}] {mirror} {suite} main\n"
                              for suite in suites))
    return ["-o", f"Dir::Etc::sourcelist={listed}", "-o", "Dir::Etc::sourceparts=-"]


def from_suites(package: str, suites: Sequence[str], out: Path, *options: str) -> Path:
    """A package of the first of these suites that has it; `out` is for the package state."""
    for suite in suites:
        try:
            return download(package, out / "apt", *sources(out, suite), *options)
        except Error:
            if suite == suites[-1]:
                raise
    raise ValueError("no suites")


def download_source(package: str, version: str, suite: str, out: Path) -> None:
    """The archive of a source package, without Debian's own part."""
    state = out / "apt"
    output([*apt_get(state, *sources(state, suite, kind="deb-src")), "source", "--download-only",
            "--tar-only", f"{package}={version}"], cwd=state)
    # apt-get writes to the file from the first byte on: what is interrupted stays where it is.
    for path in state.glob(f"{package}_*.tar.*"):
        path.rename(out / path.name)
    shutil.rmtree(state)


def unpack(packages: Sequence[str], suites: Sequence[str], root: Path, arch: str = "") -> None:
    """Packages and all that they depend on, from suites that are used together; of another
    architecture, if it is named."""
    _, codename = archive()
    suites = [suite.format(codename=codename) for suite in suites]
    say(f"  downloading {', '.join(packages)} from Debian {suites[-1]}")
    state = root.with_name("apt")
    options = sources(state, *suites) + (architecture(arch) if arch else [])
    output([*apt_get(state, *options), "install", "--download-only", "--yes",
            "--no-install-recommends", f"--target-release={suites[-1]}", *packages])
    for deb in sorted(state.glob("cache/archives/*.deb")):
        output(["dpkg", "-x", deb, root])
    shutil.rmtree(state)


def unpacked_qemu(arch: str, major: int, suites: Sequence[str]) -> Path:
    """A QEMU of the archive's suites, unpacked once; beside it, the root file system it is in."""
    name = ARCHES[arch].qemu

    def fill(fresh: Path) -> None:
        root = fresh / "root"
        unpack([ARCHES[arch].vmm], suites, root)
        loader = next(root.glob("**/*-linux-*/ld-linux-*.so.*"))
        (fresh / name).write_text(START.format(triplet=loader.parent.name,
                                               loader=loader.relative_to(root)))
        (fresh / name).chmod(0o755)
        if qemu_major(fresh / name) < major:
            fail(f"that of Debian {suites[-1]} does not run here, or is older")

    with MAKING:
        return once(SHARED / f"qemu{major}" / arch, fill) / name


def qemu(arch: str, major: int) -> Path:
    """A QEMU for machines of `arch`, of that version or newer: the installed one, or another."""
    installed = shutil.which(ARCHES[arch].qemu)
    if installed and qemu_major(Path(installed)) >= major:
        return Path(installed)
    for suites in SUITES[major]:
        try:
            return unpacked_qemu(arch, major, suites)
        except (Error, OSError, StopIteration) as error:
            why = error
    raise Unavailable.after(f"QEMU {major}", why) from why


def kernel_source(source: Source) -> Path:
    """The archive with a base's source: the installed package's, or that of another suite."""
    package, name = source.package, f"usr/src/{source.package}.tar.xz"
    installed, out = Path("/", name), BUILD / "source"
    if installed.exists():
        return installed
    if not source.suites:
        fail(f"{installed} is missing: install {package} (make setup), or name a tree with KSRC=")
    if not (out / name).exists():
        say(f"downloading {package}")
        try:
            downloaded = from_suites(package, source.suites, out)
            output(["dpkg", "-x", downloaded, out])
            downloaded.unlink()
        except (Error, OSError) as error:
            fail(f"{package} is not installed, and none of {', '.join(source.suites)} has it for "
                 f"us: name a tree with KSRC=\n{error}")
    return out / name


def bochs_version() -> str:
    """The version of the installed Bochs; empty if there is none, or it does not say."""
    try:
        done = subprocess.run(["bochs-bin", "--help"], text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, check=False)
    except OSError:
        return ""
    match = re.search(r"Bochs x86 Emulator (\S+)", done.stdout + done.stderr)
    return match[1] if match else ""


def check_bochs() -> None:
    """Refuses a Bochs that cannot run KVM-Intel's guests."""
    version = bochs_version()
    if re.match(r"[3-9]|\d\d", version):
        raise Unavailable(f"needs Bochs 2.7, and this is {version}: KVM guests fail to enter there "
                          "(FAIL_ENTRY on 3.0), or Linux does not boot (3.1)")
