# SPDX-License-Identifier: GPL-2.0-only
"""`make selftests-tar`: our selftests to run on real hardware, one tarball for each architecture.

The same sources give the same bytes, wherever and whenever they are built.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import tempfile
from pathlib import Path

import build
import settings
import tables
import tree
from settings import ARCHES, HERE, OUT, REPO, output, say
from tables import Test

# Programs of kvm/ that do nothing without a device of QEMU's.
EMULATED = ("kvm/memtype_vfio_test", "kvm/memtype_removal_test")

README = """memtype selftests for @ARCH@, from commit @COMMIT@

    ./run.sh

as root, on the machine to be tested; nothing has to be installed there. It
prints what each program prints (KTAP); the exit status is 0 if all passed, 1 if
one failed, 4 if none could run. Programs skip what the machine or its kernel
cannot do, and say why.

The tests start small virtual machines, reserve 2M huge pages (nr_hugepages is 8
afterwards), change kvm.guest_memtype for a moment, and use trace events. Do not
run them on a machine that others depend on.

Kernel: Linux @BASE@ with the patches of this commit (make series), and

    @OPTIONS@

The KVM_MEMTYPE_PROBE and *_TEST options are for test kernels only: they let any
user of KVM look at page tables. Without them the tests that need them skip.
Also used, where there: CONFIG_TRANSPARENT_HUGEPAGE, CONFIG_HUGETLBFS,
CONFIG_FTRACE, CONFIG_DEBUG_FS, CONFIG_IOMMUFD, CONFIG_VFIO_PCI with
CONFIG_VFIO_DEVICE_CDEV. Of VFIO BARs, only those of QEMU's edu and display are
tested; without these devices, those tests skip.

Lines "# memtype-cell:" say which type the CPU used. The memtype matrix
compares them with what each of its emulated machines must have, run.sh does not.
Documentation/virt/kvm/memtype.rst says what to expect.
"""


def ours(arch: str) -> list[Test]:
    """Our tests for an architecture, each once whatever machines it is for.

    Those of cache maintenance would see nothing of real hardware: they have emulated devices, and
    EMULATED needs one. And nothing else has what a guest boots.
    """
    machines = tables.all_machines()
    found = {(test.program, *test.args): test for test in tables.all_tests(machines)
             if tables.is_ours(test) and test.program.startswith("kvm/") and not test.guest
             and test.program not in EMULATED
             and any(machines[name].arch == arch for name in test.machines)}
    return list(found.values())


def listing(tests: list[Test]) -> str:
    """What run.sh reads."""
    return "".join(" ".join([test.program, *test.args]) + "\n" for test in tests)


def options(arch: str) -> list[str]:
    """The project's own kernel options that the tests need."""
    return [line for line in build.wanted_options(build.fragments(arch)).values()
            if re.match(r"CONFIG_\w*MEMTYPE\w*=y", line) and "KUNIT" not in line]


def archive(directory: str, files: dict[str, bytes], date: int) -> bytes:
    """A .tar.gz of `files`, whose order and owner do not depend on where they come from."""
    packed, compressed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(f"{directory}/{name}")
            info.size, info.mtime = len(content), date
            info.mode = 0o755 if content.startswith((b"\x7fELF", b"#!")) else 0o644
            tar.addfile(info, io.BytesIO(content))
    with gzip.GzipFile("", "wb", fileobj=compressed, mtime=date) as sink:
        sink.write(packed.getvalue())
    return compressed.getvalue()


def stripped(arch: str, program: Path) -> bytes:
    """Without what tells where it was built: debug information and the checksum over it."""
    with tempfile.NamedTemporaryFile() as scratch:
        output([f"{ARCHES[arch].cross}strip", "-R", ".note.gnu.build-id", "-o", scratch.name,
                program])
        return Path(scratch.name).read_bytes()


def write() -> None:
    """Write the tarballs to OUT."""
    base = tree.lay("patched")
    commit = output(["git", "-C", REPO, "describe", "--always", "--dirty", "--abbrev=12"]).strip()
    date = int(output(["git", "-C", REPO, "log", "-1", "--format=%ct"]))
    OUT.mkdir(parents=True, exist_ok=True)
    for arch in ARCHES:
        tests, built = ours(arch), build.selftests(arch)
        readme = README
        for word, text in (("ARCH", arch), ("COMMIT", commit), ("BASE", base.version),
                           ("OPTIONS", "\n    ".join(options(arch)))):
            readme = readme.replace(f"@{word}@", text)
        files = {test.program: stripped(arch, built / test.program) for test in tests}
        files |= {"README": readme.encode(), "tests": listing(tests).encode(),
                  "run.sh": (HERE / "run.sh").read_bytes()}
        target = OUT / f"memtype-selftests-{arch}.tar.gz"
        target.write_bytes(archive(target.name.removesuffix(".tar.gz"), files, date))
        say(f"{target}: {', '.join(test.program for test in tests)}")


if __name__ == "__main__":
    settings.main({"write": write}, __doc__)
