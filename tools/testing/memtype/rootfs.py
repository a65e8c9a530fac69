# SPDX-License-Identifier: GPL-2.0-only
"""Of `make vmm`: Debian's QEMU with all that it needs, for each architecture a root file system.

debootstrap chooses the packages, downloads them from the archive that this Debian comes from, and
checks their signatures. Here they are only unpacked: nothing of them runs, so that it needs no
privileges, and another architecture's no emulation.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import debian
from settings import ARCHES, BUILD, fail, output, say

# Seconds that debootstrap may take.
LIMIT = 1800


def directory(arch: str) -> Path:
    return BUILD / "rootfs" / arch


def environment() -> dict[str, str]:
    """For debootstrap, which is not in every user's PATH, and does not ask apt for its proxy."""
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    if not env.get("http_proxy"):
        said = shlex.split(output(["apt-config", "shell", "P", "Acquire::http::Proxy"]))
        proxy = said[0].removeprefix("P=") if said else ""
        if proxy not in ("", "DIRECT"):
            env["http_proxy"] = proxy
    return env


def make(arch: str) -> None:
    """Makes it once.

    Its DEBIAN holds what the package of QEMU says of itself: the version, and the MD5 sums of its
    files, by which a test shows that they are as Debian built them.
    """
    if directory(arch).exists():
        return
    try:
        unpack(arch, BUILD / "rootfs" / f"{arch}.new")
    except subprocess.TimeoutExpired:
        fail(f"{arch} root file system: debootstrap took more than {LIMIT} s; "
             "is the archive, or its proxy, slow?")
    except OSError as error:
        fail(f"{arch} root file system: {error}")


def unpack(arch: str, fresh: Path) -> None:
    package = ARCHES[arch].vmm
    mirror, codename = debian.archive()
    say(f"  {arch} root file system: {package} from Debian {codename}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    output(["debootstrap", "--download-only", "--variant=minbase", f"--arch={ARCHES[arch].debian}",
            f"--include={package}", f"--keyring={debian.KEYRING}", "--force-check-gpg",
            codename, fresh, mirror], env=environment(), timeout=LIMIT)
    downloads = fresh / "var/cache/apt/archives"
    for deb in sorted(downloads.glob("*.deb")):
        output(["dpkg-deb", "--extract", deb, fresh])
    output(["dpkg-deb", "--control", next(downloads.glob(f"{package}_*.deb")), fresh / "DEBIAN"])
    for part in (downloads, fresh / "debootstrap"):
        shutil.rmtree(part)
    fresh.rename(directory(arch))
