# SPDX-License-Identifier: GPL-2.0-only
"""`make qemu`: a QEMU that asks KVM for memory types, for each architecture.

tools/qemu has what Debian's source of QEMU lacks: new files at their place in it, and patches that
hook them in. It is built with little more than the devices that our tests have, for KVM on the
architecture itself, and against this Debian's libraries of that architecture, which are only
unpacked; and with a renderer of ours (renderer/). All of it is below BUILD/qemu:

    source          the source, patched
    meson           Meson, which this Debian has too old
    <arch>/root     the libraries
    <arch>/build    the objects and the program
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import build
import debian
import settings
from settings import ARCHES, HERE, REPO, SHARED, Error, fail, output, say

OURS = REPO / "tools/qemu"
PATCHES = OURS / "patches"
# Debian's version of the source that the patches are for.
VERSION = OURS / "version"
OUT = SHARED / "qemu"
SOURCE = OUT / "source"
# The suite that has the source, and Meson.
SUITE = "unstable"
MESON = ["meson", "python3-pycotap"]
LIBRARIES = ["libglib2.0-dev", "libpixman-1-dev", "libfdt-dev", "zlib1g-dev",
             "libepoxy-dev"]
RENDERER = HERE / "renderer"
# What the renderer takes the place of, as QEMU asks pkg-config for it
REPLACED = {"epoxy": "1.5", "gbm": "22.3", "virglrenderer": "1.0.0"}
# Machines that start at the same time may need the same one.
MAKING = threading.Lock()
# It is compiled more often than it runs for long; gcc has more warnings where it optimizes less.
OPTIONS = ["--python=/usr/bin/python3", "--disable-download", "--without-default-features",
           "--without-default-devices", "--disable-tcg", "--disable-tools",
           "--disable-install-blobs", "--enable-kvm", "--enable-pixman", "--enable-fdt=system",
           "--enable-opengl", "--enable-virglrenderer",
           "--disable-debug-info", "--enable-trace-backends=nop", "-Doptimization=1",
           "--disable-werror"]


def new_files() -> dict[Path, Path]:
    """Our files, by their place in the source of QEMU."""
    files = {path.relative_to(OURS): path for path in sorted(OURS.rglob("*"))
             if path.is_file() and path != VERSION and not path.is_relative_to(PATCHES)}
    return {**files, Path("linux-headers/linux/kvm_memtype.h"): REPO / build.UAPI_HEADER}


def patches() -> list[Path]:
    return [PATCHES / name for name in (PATCHES / "series").read_text().split()]


def archive() -> Path:
    """The archive of the source, downloaded once."""
    version = VERSION.read_text().strip()
    # As Debian names it: without the epoch and Debian's own revision.
    name = f"qemu_{version.partition(':')[2].rpartition('-')[0]}.orig.tar.xz"
    if not (OUT / name).exists():
        say(f"downloading the source of QEMU {version}")
        try:
            debian.download_source("qemu", version, SUITE, OUT)
        except Error as error:
            fail(f"Debian {SUITE} does not have the source of QEMU {version} any more; if you have "
                 f"{name}, put it into {OUT}\n{error}")
    return OUT / name


def lay() -> None:
    """Unpacks and patches the source once, and brings our files in it up to date."""
    files, series = new_files(), patches()
    key = hashlib.sha256(VERSION.read_bytes() + "\n".join(map(str, files)).encode())
    for path in series:
        key.update(path.read_bytes())
    stamp = SOURCE / "memtype.stamp"
    if not stamp.exists() or stamp.read_text() != key.hexdigest():
        shutil.rmtree(SOURCE, ignore_errors=True)
        SOURCE.mkdir(parents=True)
        # Three quarters of it are the sources of firmware.
        output(["tar", "-C", SOURCE, "--strip-components=1", "--exclude=*/roms",
                "--no-same-owner", "-xf", archive()])
        if twice := [name for name in files if (SOURCE / name).exists()]:
            fail(f"{twice[0]} is in QEMU, too: change it by a patch")
        # A repository of its own: else git applies nothing below another one.
        output(["git", "init", "-q", SOURCE])
        for path in series:
            output(["git", "-C", SOURCE, "apply", path])
        stamp.write_text(key.hexdigest())
    for name, path in files.items():
        target = SOURCE / name
        if not target.exists() or target.read_bytes() != path.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def unpacked(packages: list[str], suite: str, root: Path, arch: str = "") -> Path:
    """Packages with all that they depend on, unpacked once."""
    listed = root / "packages"

    def fill(fresh: Path) -> None:
        debian.unpack(packages, [suite], fresh, arch)
        (fresh / listed.name).write_text(" ".join(packages))

    if not listed.exists() or listed.read_text().split() != packages:
        shutil.rmtree(root, ignore_errors=True)
    return debian.once(root, fill)


def libraries(arch: str) -> Path:
    return unpacked(LIBRARIES, "{codename}", OUT / arch / "root", arch)


def meson() -> Path:
    return unpacked(MESON, SUITE, OUT / "meson")


def renderer(arch: str, root: Path, compiler: list[str]) -> Path:
    """Adds the renderer to the libraries; returns the directory of what pkg-config says of it."""
    library, out = root / "usr/lib/librenderer.a", root / "renderer"
    if library.exists() and library.stat().st_mtime >= max(
            path.stat().st_mtime for path in (*RENDERER.iterdir(), REPO / "mm/memtype_test.h")):
        return out
    out.mkdir(exist_ok=True)
    objects = []
    for source in sorted(RENDERER.glob("*.[cS]")):
        objects.append(out / f"{source.stem}.o")
        output([*compiler, "-O2", "-fPIC", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror",
                "-c", "-o", objects[-1], source])
    for name, version in REPLACED.items():
        (out / f"{name}.pc").write_text(f"Name: {name}\nDescription: the renderer of the tests\n"
                                        f"Version: {version}\nLibs: -lrenderer\n")
    output([f"{ARCHES[arch].cross}ar", "rcs", library, *objects])
    # It is linked with this one only if it is made again.
    (OUT / arch / "build" / ARCHES[arch].qemu).unlink(missing_ok=True)
    return out


def compile_for(arch: str) -> Path:
    """Configures and builds it."""
    program = ARCHES[arch].qemu
    target, cross = program.removeprefix("qemu-system-"), ARCHES[arch].cross
    root = libraries(arch)
    compiler = [f"{cross}gcc", f"--sysroot={root}"]
    # The first that is found counts.
    found = [str(path) for path in (renderer(arch, root, compiler),
                                    *sorted(root.glob("usr/**/pkgconfig")))]
    env = {"PKG_CONFIG": "pkg-config", "PKG_CONFIG_LIBDIR": ":".join(found),
           "PKG_CONFIG_SYSROOT_DIR": str(root),
           "PYTHONPATH": str(meson() / "usr/lib/python3/dist-packages")}
    out, log = OUT / arch / "build", OUT / arch / "build.log"
    what = f"QEMU for {arch}"
    options = [*([f"--cross-prefix={cross}"] if cross else []),
               f"--cc=ccache {' '.join(compiler)}", f"--target-list={target}-softmmu",
               f"--with-devices-{target}=memtype", f"--extra-cflags=-I{RENDERER}", *OPTIONS]
    stamp = out / "memtype.stamp"
    if not stamp.exists() or stamp.read_text() != "\n".join(options):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        build.watch(f"{what}: configure", [SOURCE / "configure", *options], log, env, cwd=out)
        stamp.write_text("\n".join(options))
    build.watch(what, ["ninja", "-C", out, f"-j{os.cpu_count()}", program], log, env)
    return out / program


def directory(arch: str) -> Path:
    """The directory of the program, for a machine that it runs in; it is built if need be."""
    with MAKING:
        try:
            archive()
            libraries(arch)
            meson()
        except (Error, OSError) as error:
            raise debian.Unavailable.after("QEMU's source", error) from error
        lay()
        return compile_for(arch).parent


def make() -> None:
    """Lays the source and builds it for each architecture."""
    lay()
    for arch in ARCHES:
        start = time.monotonic()
        program = compile_for(arch)
        say(f"{program}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    settings.main({"make": make}, __doc__)
