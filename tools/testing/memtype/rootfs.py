# SPDX-License-Identifier: GPL-2.0-only
"""Of `make vmm`: Debian's QEMU with all that it needs, for each architecture a root file system.

debootstrap chooses the packages, downloads them from the archive that this Debian comes from, and
checks their signatures. Here they are only unpacked: nothing of them runs, so that it needs no
privileges, and another architecture's no emulation.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import build
from settings import BUILD, output, say

# For each architecture: how Debian calls it, and the package of its QEMU.
PACKAGES = {"x86_64": ("amd64", "qemu-system-x86"), "arm64": ("arm64", "qemu-system-arm")}


def directory(arch: str) -> Path:
    return BUILD / "rootfs" / arch


def make(arch: str) -> None:
    """Makes it once.

    Its DEBIAN holds what the package of QEMU says of itself: the version, and the MD5 sums of its
    files, by which a test shows that they are as Debian built them.
    """
    root, fresh = directory(arch), BUILD / "rootfs" / f"{arch}.new"
    if root.exists():
        return
    debian, package = PACKAGES[arch]
    mirror, codename = build.archive()
    say(f"  {arch} root file system: {package} from Debian {codename}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    # It is not in every user's PATH.
    output(["debootstrap", "--download-only", "--variant=minbase", f"--arch={debian}",
            f"--include={package}", f"--keyring={build.KEYRING}", "--force-check-gpg",
            codename, fresh, mirror],
           env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    downloads = fresh / "var/cache/apt/archives"
    for deb in sorted(downloads.glob("*.deb")):
        output(["dpkg-deb", "--extract", deb, fresh])
    output(["dpkg-deb", "--control", next(downloads.glob(f"{package}_*.deb")), fresh / "DEBIAN"])
    for part in (downloads, fresh / "debootstrap"):
        shutil.rmtree(part)
    fresh.rename(root)
