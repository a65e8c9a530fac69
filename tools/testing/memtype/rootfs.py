# SPDX-License-Identifier: GPL-2.0-only
"""For `make vmm`: Debian's QEMU with all that it needs, for each architecture a root file system.

debootstrap chooses the packages, downloads them from the archive that this Debian comes from, and
checks their signatures. Here they are only unpacked: nothing of them runs, so that it needs no
privileges, and another architecture's no emulation. `make deb-boot` has debootstrap here, too.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import debian
from settings import ARCHES, SHARED, Error, fail, output, say

# Seconds without a byte after which debootstrap's wget tries once more, and then gives up.
LIMIT = 120
# The suite that has the newest QEMU, in the same archive and signed by the same keys.
NEWEST = "unstable"
# Where the tests have one, and a QEMU that asks in it, when it is in an initramfs (memtype/qemu.h).
PLACE = "/debian"
ASKS = f"{PLACE}/asks"
# What QEMU reads when it starts a PC with std VGA, and boots Linux.
FIRMWARE = ["usr/share/seabios/bios-256k.bin", "usr/share/seabios/vgabios-stdvga.bin",
            "usr/share/qemu/kvmvapic.bin", "usr/share/qemu/linuxboot_dma.bin"]
# Machines that start at the same time may need the same one.
MAKING = threading.Lock()


def directory(arch: str, suite: str = "") -> Path:
    """Of this Debian itself, or of another suite."""
    return SHARED / "rootfs" / "-".join(filter(None, (arch, suite)))


def environment() -> dict[str, str]:
    """For debootstrap, which is not in every user's PATH, and does not ask apt for its proxy."""
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    if not env.get("http_proxy"):
        said = shlex.split(output(["apt-config", "shell", "P", "Acquire::http::Proxy"]))
        proxy = said[0].removeprefix("P=") if said else ""
        if proxy not in ("", "DIRECT"):
            env["http_proxy"] = proxy
    return env


def make(arch: str, suite: str = "") -> Path:
    """Makes it once.

    Its DEBIAN holds what the package of QEMU says of itself: the version, and the MD5 sums of its
    files, by which a test shows that they are as Debian built them.
    """
    root = directory(arch, suite)
    with MAKING:
        try:
            return debian.once(root, lambda fresh: unpack(arch, suite, fresh))
        except OSError as error:
            fail(f"{arch} root file system: {error}")


def debootstrap(arch: str, suite: str, root: Path, *options: str,
                under: Sequence[str | Path] = ()) -> None:
    """Runs it for a root of a suite, or of this Debian's own; `under` is what runs the command."""
    mirror, codename = debian.archive()
    suite = suite or codename
    say(f"  {arch} root file system: Debian {suite}")
    with tempfile.NamedTemporaryFile("w") as wgetrc:
        # The last line that sets something counts.
        user = Path(os.environ.get("WGETRC") or Path.home() / ".wgetrc")
        wgetrc.write(f"{user.read_text() if user.is_file() else ''}\n"
                     f"timeout = {LIMIT}\ntries = 2\n")
        wgetrc.flush()
        output([*under, "debootstrap", "--variant=minbase", f"--arch={ARCHES[arch].debian}",
                *options, f"--keyring={debian.KEYRING}", "--force-check-gpg", suite, root, mirror],
               env={**environment(), "WGETRC": wgetrc.name})


def unpack(arch: str, suite: str, fresh: Path) -> None:
    package = ARCHES[arch].vmm
    debootstrap(arch, suite, fresh, "--download-only", f"--include={package}")
    downloads = fresh / "var/cache/apt/archives"
    for deb in sorted(downloads.glob("*.deb")):
        output(["dpkg-deb", "--extract", deb, fresh])
    output(["dpkg-deb", "--control", next(downloads.glob(f"{package}_*.deb")), fresh / "DEBIAN"])
    for part in (downloads, fresh / "debootstrap"):
        shutil.rmtree(part)


def qemu11(arch: str) -> Path:
    """A root file system with QEMU 11 or newer; its version is the package's own word."""
    try:
        root = make(arch, NEWEST)
        version = re.search(r"^Version: (?:\d+:)?((\d+)\S*)",
                            (root / "DEBIAN/control").read_text(), re.M)
        if not version or int(version[2]) < 11:
            fail(f"Debian {NEWEST} has {version[1] if version else 'one without a version'}")
    except (Error, OSError) as error:
        raise debian.Unavailable.after("QEMU 11", error) from error
    return root


def needed(program: Path, libraries: dict[str, Path]) -> dict[str, Path]:
    """The libraries that a program needs, by the names that it knows them by."""
    found: dict[str, Path] = {}
    left = [program]
    while left:
        said = output(["readelf", "--dynamic", left.pop()])
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", said):
            if name not in found:
                found[name] = libraries[name]
                left.append(libraries[name])
    return found


def carried(directories: list[str], arch: str) -> dict[str, Path]:
    """Of a root file system and, if there is one, the directory of a QEMU that asks, as little as
    that QEMU needs to start; by where an initramfs has it."""
    if not directories:
        return {}
    root, *asks = (Path(directory).resolve() for directory in directories)
    name = ARCHES[arch].qemu
    program = asks[0] / name if asks else root / "usr/bin" / name
    place = f"{ASKS}/{name}" if asks else f"{PLACE}/usr/bin/{name}"
    libraries = {path.name: path for path in root.rglob("*.so*")
                 if path.resolve().is_relative_to(root)}
    found = needed(program, libraries)
    interpreter = re.search(r"interpreter: (.*)\]",
                            output(["readelf", "--program-headers", program]))
    assert interpreter
    loader = libraries[Path(interpreter[1]).name]
    return {place: program, f"{PLACE}{interpreter[1]}": loader,
            **{f"{PLACE}/usr/lib/{name}": path for name, path in found.items()},
            **{f"{PLACE}/{name}": root / name for name in FIRMWARE}}
