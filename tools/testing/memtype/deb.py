# SPDX-License-Identifier: GPL-2.0-only
"""`make deb`: Debian packages of the patched kernel and of its tools, for real machines.

The kernel's own bindeb-pkg makes those of the kernel. `make deb-boot` installs them in a fresh
Debian in QEMU, and boots that from what was installed.
"""

from __future__ import annotations

import lzma
import shlex
import shutil
import time
from pathlib import Path

import build
import debian
import rootfs
import settings
import tables
import tree
from emulator import Emulator, Pulse
from settings import ARCH, ARCHES, BUILD, HERE, KCONFIG, OUT, REPO, TREES, fail, output, say

TOOLS = "memtype-tools"
CONTROL = """\
Package: {package}
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Section: admin
Priority: optional
Description: memory types of KVM's guests
 kvm-memtype prints which memory types the guests of a process get, and why.
 memtype-example prints what this kernel can do, and is an example for VMMs.
"""
# What KCONFIG= may be, other than a file.
NAMED = ("debian", "small")
# In Debian's package with the configurations of a base.
CONFIG = "usr/src/{package}/config.{debian}_none_{debian}.xz"
# The disk of a machine, in bytes; it is sparse.
DISK = 2 << 30
# Seconds of CPU time that a machine may use. To install takes 162 (x86_64) and 203 (arm64).
LIMIT = 6000
POLL = 0.5
# The last line of deb_init.sh.
DONE = "deb_init.sh: done: {}"


def chosen() -> list[str]:
    if ARCH and ARCH not in ARCHES:
        fail(f"ARCH={ARCH}: must be one of {', '.join(ARCHES)}")
    if KCONFIG not in NAMED and not ARCH:
        fail(f"KCONFIG={KCONFIG} is for one architecture: name it by ARCH=")
    return [ARCH] if ARCH else list(ARCHES)


def below(top: Path, arch: str) -> Path:
    return top / "deb" / f"{arch}-{KCONFIG if KCONFIG in NAMED else 'file'}"


def debian_config(arch: str) -> str:
    """Debian's own configuration."""
    base = settings.BASES[settings.BASE]
    try:
        root = debian.unpacked(base.config, arch, base.suites)
        path = root / CONFIG.format(package=base.config, debian=ARCHES[arch].debian)
        return lzma.open(path, "rt").read()
    except (settings.Error, OSError, lzma.LZMAError) as error:
        fail(f"KCONFIG=debian: {base.config} cannot be had for {arch}; name a file, such as "
             f"KCONFIG=/boot/config-...\n{error}")


def configure(arch: str, out: Path) -> None:
    """What KCONFIG= names, and on top of it what makes the kernel one of ours."""
    start, fragments = "", settings.fragments("production")
    if KCONFIG == "small":
        fragments = settings.fragments("deb", f"deb_{arch}") + fragments
    elif KCONFIG == "debian":
        start = debian_config(arch)
    else:
        try:
            start = Path(KCONFIG).read_text()
        except (OSError, UnicodeDecodeError) as error:
            fail(f"KCONFIG={KCONFIG}: must be debian, small or a text file: {error}")
    build.configure(arch, out, files=fragments, start=start)


def host_flags(arch: str) -> list[str]:
    """Of a cross build: the package of headers has a program that signs modules, which is built
    once more for where the kernel runs. This machine's own compiler and linker pass these over."""
    if not ARCHES[arch].cross:
        return []
    usr = debian.unpacked(debian.LIBSSL, arch) / "usr"
    library, = usr.glob("lib/*-linux-gnu")
    return [f"HOSTCFLAGS=-idirafter {usr / 'include' / library.name} -idirafter {usr / 'include'}",
            f"HOSTLDFLAGS=-L{library}"]


def tools(arch: str, version: str, maintainer: str) -> None:
    """The package of the tools; they are static, and so need no version of a library."""
    where, name = below(BUILD, arch), ARCHES[arch].debian
    root = where / TOOLS
    shutil.rmtree(root, ignore_errors=True)
    where.mkdir(parents=True, exist_ok=True)
    output(["make", "-s", "-C", REPO / "tools/kvm/memtype", "install", f"DESTDIR={root}",
            f"OUTPUT={where}/", f"CROSS_COMPILE={ARCHES[arch].cross}", "LDFLAGS=-static -s"])
    documents = root / "usr/share/doc" / TOOLS
    documents.mkdir(parents=True)
    shutil.copy(REPO / "COPYING", documents / "copyright")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(CONTROL.format(
        package=TOOLS, version=version, architecture=name, maintainer=maintainer))
    output(["dpkg-deb", "--root-owner-group", "--build", root,
            where / f"{TOOLS}_{version}_{name}.deb"])


def write() -> None:
    """Write the packages to OUT/deb."""
    arches = chosen()
    if settings.KERNEL != "patched":
        fail(f"KERNEL={settings.KERNEL}: packages are of the patched kernel alone")
    # A later commit has a higher version, if git knows all of them.
    if output(["git", "-C", REPO, "rev-parse", "--is-shallow-repository"]).strip() != "false":
        fail("this clone is shallow, and packages are numbered by commits: git fetch --unshallow "
             "(in CI, GitHub's checkout needs fetch-depth: 0, and GitLab GIT_DEPTH: 0)")
    base = tree.lay()
    author = output(["git", "-C", REPO, "log", "-1", "--format=%an%n%ae"]).splitlines()
    version = f"{base.version}-{output(['git', '-C', REPO, 'rev-list', '--count', 'HEAD']).strip()}"
    for arch in arches:         # a configuration that is wrong stops before the first build
        configure(arch, below(BUILD, arch) / "objects")
    for arch in arches:
        start, where, target = time.monotonic(), below(BUILD, arch), below(OUT, arch)
        objects = where / "objects"
        for old in where.glob("*.deb"):
            old.unlink()
        # What bindeb-pkg needs is what setup.sh installs, and nothing of another architecture.
        build.make(f"{arch} packages", arch, objects / "build.log", "-C", TREES["patched"],
                   f"O={objects}", *host_flags(arch), "bindeb-pkg", DPKG_FLAGS="-d",
                   KDEB_PKGVERSION=version, KDEB_CHANGELOG_DIST="unstable", DEBFULLNAME=author[0],
                   DEBEMAIL=author[1])
        tools(arch, version, "{} <{}>".format(*author))
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for package in sorted(where.glob("*.deb")):
            shutil.copy(package, target)
            say(f"{target / package.name}: {package.stat().st_size / 1e6:.1f} MB")
        say(f"{arch}: took {(time.monotonic() - start) / 60:.1f} minutes")


def make_disk(arch: str, packages: list[Path]) -> Path:
    """A disk with a Debian that is unpacked, but not yet configured, and the packages.

    The second stage of debootstrap runs programs of `arch`, and so belongs to the machine.
    """
    where = below(BUILD, arch)
    root, disk, owners = where / "root", where / "disk", where / "owners"
    shutil.rmtree(root, ignore_errors=True)
    disk.unlink(missing_ok=True)
    rootfs.debootstrap(arch, "", root, "--foreign", "--include=kmod",
                       under=["fakeroot", "-s", owners, "--"])
    # In a container, debootstrap has made it a link to the container's own.
    if (root / "proc").is_symlink():
        (root / "proc").unlink()
        (root / "proc").mkdir()
    (root / "packages").mkdir()
    for package in packages:
        shutil.copy(package, root / "packages")
    shutil.copy(HERE / "deb_init.sh", root)
    output(["fakeroot", "-i", owners, "--", "mke2fs", "-q", "-t", "ext4", "-d", root, disk,
            f"{DISK >> 10}k"], env=rootfs.environment())
    shutil.rmtree(root)
    return disk


def dump(disk: Path, path: str, target: Path) -> None:
    """A file of a disk. debugfs has no exit status, so that what is missing is an empty file."""
    target.write_bytes(b"")
    output(["debugfs", "-R", f"dump {path} {target}", disk], env=rootfs.environment())
    if not target.stat().st_size:
        fail(f"{disk} has no {path}")


def run(arch: str, disk: Path, kernel: Path, what: str) -> str:
    """Boots a machine of the matrix from the disk, to do one thing; returns its console."""
    where = below(BUILD, arch)
    console = where / f"{what}.log"
    console.write_bytes(b"")
    machine = next(item for item in tables.all_machines().values()
                   if (item.arch, item.emulator) == (arch, "qemu"))
    emulator = Emulator([
        *shlex.split(machine.command.format(run=where, cpu=machine.cpu)), "-display", "none",
        "-monitor", "none", "-serial", f"file:{console}", "-drive",
        f"file={disk},format=raw,if=virtio", "-kernel", str(kernel), "-append",
        f"{ARCHES[arch].console} {machine.cmdline} root=/dev/vda rw panic=-1 "
        f"init=/deb_init.sh -- {what}"], where)
    pulse, size, stopped = Pulse(emulator), 0, ""
    try:
        while emulator.running() and not stopped:
            time.sleep(POLL)
            if console.stat().st_size != size:
                size = console.stat().st_size
                pulse.beat()
            elif pulse.stopped():
                stopped = "it hangs"
            if emulator.cpu() > LIMIT:
                stopped = f"it used more than {LIMIT} s of CPU time"
    finally:
        emulator.kill()
    text = console.read_text(errors="replace")
    if DONE.format(what) not in text.splitlines():
        fail(f"{arch}: {what} failed: {stopped or 'the machine ended'}; the end of {console}:\n"
             + "\n".join(text.splitlines()[-40:]))
    say(f"  {arch}: {what}: {emulator.cpu():.0f} s of CPU time")
    return text


def boot() -> None:
    """Install the packages of make deb KCONFIG=small in a fresh Debian, boot it in QEMU."""
    for arch in chosen():
        packages = sorted(below(OUT, arch).glob("*.deb"))
        names = [path.name for path in packages]
        release = next((name.removeprefix("linux-image-").partition("_")[0] for name in names
                        if name.startswith("linux-image-")), "")
        if not release:
            fail(f"{below(OUT, arch)} has no kernel: make deb KCONFIG={KCONFIG} ARCH={arch}")
        disk = make_disk(arch, packages)
        say(f"  {arch}: installing {', '.join(names)}")
        # Until one is installed, there is only what the package was made of.
        run(arch, disk, below(BUILD, arch) / "objects" / ARCHES[arch].image, "install")
        kernel = below(BUILD, arch) / "vmlinuz"
        dump(disk, f"/boot/vmlinuz-{release}", kernel)
        said = run(arch, disk, kernel, "show").splitlines()
        first, last = f"uname -r: {release}", DONE.format("show")
        if first not in said:
            fail(f"{arch}: what runs is not {release}")
        say(f"{arch}: Debian boots from the packages:")
        say("\n".join(f"    {line}" for line in said[said.index(first):said.index(last)]))


if __name__ == "__main__":
    settings.main({"write": write, "boot": boot}, __doc__)
