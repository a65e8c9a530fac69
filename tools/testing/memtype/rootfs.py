# SPDX-License-Identifier: GPL-2.0-only
"""Of `make vmm`: Debian's QEMU with all that it needs, for each architecture a root file system.

debootstrap chooses the packages, downloads them from the archive that this Debian comes from, and
checks their signatures. Here they are only unpacked: nothing of them runs, so that it needs no
privileges, and another architecture's no emulation.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import threading
from pathlib import Path

import debian
from settings import ARCHES, SHARED, Error, fail, output, say

# Seconds that debootstrap may take.
LIMIT = 1800
# The suite that has the newest QEMU, in the same archive and signed by the same keys.
NEWEST = "unstable"
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
        if root.exists():
            return root
        try:
            unpack(arch, suite, root)
        except subprocess.TimeoutExpired:
            fail(f"{arch} root file system: debootstrap took more than {LIMIT} s; "
                 "is the archive, or its proxy, slow?")
        except OSError as error:
            fail(f"{arch} root file system: {error}")
    return root


def unpack(arch: str, suite: str, root: Path) -> None:
    package, fresh = ARCHES[arch].vmm, root.with_name(f"{root.name}.new")
    mirror, codename = debian.archive()
    suite = suite or codename
    say(f"  {arch} root file system: {package} from Debian {suite}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    output(["debootstrap", "--download-only", "--variant=minbase", f"--arch={ARCHES[arch].debian}",
            f"--include={package}", f"--keyring={debian.KEYRING}", "--force-check-gpg",
            suite, fresh, mirror], env=environment(), timeout=LIMIT)
    downloads = fresh / "var/cache/apt/archives"
    for deb in sorted(downloads.glob("*.deb")):
        output(["dpkg-deb", "--extract", deb, fresh])
    output(["dpkg-deb", "--control", next(downloads.glob(f"{package}_*.deb")), fresh / "DEBIAN"])
    for part in (downloads, fresh / "debootstrap"):
        shutil.rmtree(part)
    fresh.rename(root)


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
