# SPDX-License-Identifier: GPL-2.0-only
"""`make selftests-tar`: our selftests to run on real hardware, one tarball for each architecture.

The same sources give the same bytes, wherever and whenever they are built.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import re
import tarfile
import tempfile
from pathlib import Path

import build
import hardware
import settings
import tables
import tree
from settings import ARCHES, HERE, OUT, REPO, TREES, output, say
from tables import Test

# Programs that do nothing without an emulated device, or where no counter counts instructions.
EMULATED = ("kvm/memtype_vfio_test", "kvm/memtype_removal_test", "kvm/memtype_cache_test",
            "kvm/memtype_wait_test", "iommu/dma_cache_engine", "iommu/dma_cache_sample",
            "iommu/dma_cache_vdpa", "iommu/dma_cache_bench", "iommu/iommufd_noiommu",
            "iommu/vfio_no_snoop")
# What people look at a VM with, and the VM that run.sh looks at.
TOOLS = ("kvm-memtype", "memtype-example")
# What run.sh starts, with all that it imports, and the tables that these read.
PYTHON = ["tools/testing/memtype/hardware.py",
          *(f"tools/testing/memtype/{name}.py" for name in (
              "console", "judge", "page", "report", "results", "settings", "summary", "tables",
              "walker")),
          "tools/testing/memtype/architectures.toml", "tools/testing/memtype/bases.toml",
          "tools/testing/kunit/kunit_parser.py", "tools/testing/kunit/kunit_printer.py"]

README = """memtype selftests for @ARCH@, from commit @COMMIT@

    ./run.sh

as root, on the machine to be tested. It needs Python 3.11 or newer (Debian 12 has it) and nothing
else: the programs are linked statically. It takes some minutes, prints KTAP, and writes
out/report.html, out/matrix.json and out/junit.xml. The exit status is 0 if nothing failed, 1 if
something did, 2 if it cannot run, and 4 if all was skipped. ./run.sh --help has the options, and
the project's Documentation/virt/kvm/memtype-hardware.rst explains the report.

The tests start small virtual machines, reserve 2M huge pages for a moment, change
kvm.guest_memtype for a moment, inject allocation failures into themselves, and use trace events.
Do not run them on a machine that others depend on.

Kernel: Linux @BASE@ with the patches of this commit, and

    @OPTIONS@

Without the KVM_MEMTYPE_PROBE and *_TEST options, which are for test kernels only because they let
any user of KVM look at page tables, the tests that need them are skipped. Also used, where they are
there: CONFIG_TRANSPARENT_HUGEPAGE, CONFIG_HUGETLBFS, CONFIG_FTRACE, CONFIG_DEBUG_FS,
CONFIG_IOMMUFD, CONFIG_IOMMUFD_TEST, CONFIG_FAULT_INJECTION, and CONFIG_VFIO_PCI with
CONFIG_VFIO_DEVICE_CDEV.
"""


def ours(arch: str) -> list[Test]:
    """Our tests for an architecture but those of EMULATED, in each way in which a machine that is
    no VMM's runs them. What decides what the machine is goes first."""
    machines = tables.all_machines()
    found = [test for test in tables.all_tests(machines)
             if tables.is_ours(test) and not test.guest and test.program not in EMULATED
             and any(machines[name].arch == arch for name in test.machines)
             and not test.program.startswith("memtype/")]
    return sorted(found, key=lambda test: test.suite != hardware.IDENTITY)


def listing(arch: str, tests: list[Test], commit: str, base: str) -> bytes:
    """tests.json, which run.sh reads: the tables without what is not for this architecture."""
    machines = {name: item.proves for name, item in tables.all_machines().items()
                if item.arch == arch and item.config != "vmm" and tables.boots_base(item)}
    listed = [dataclasses.asdict(dataclasses.replace(
        test, machines=[name for name in test.machines if name in machines],
        rows={row: mine for row, values in test.rows.items()
              if (mine := {name: value for name, value in values.items() if name in machines})},
        skips={name: values for name, values in test.skips.items() if name in machines}))
        for test in tests]
    kit = hardware.Kit(arch, commit, base, machines, [])
    return json.dumps({**dataclasses.asdict(kit), "tests": listed}, indent=1).encode() + b"\n"


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
        files = {name: stripped(arch, built / name)
                 for name in [*TOOLS, *(test.program for test in tests)]}
        files |= {name: (TREES["patched"] / name).read_bytes() for name in PYTHON}
        files |= {"README": readme.encode(), "run.sh": (HERE / "run.sh").read_bytes(),
                  "tests.json": listing(arch, tests, commit, f"Linux {base.version}")}
        target = OUT / f"memtype-selftests-{arch}.tar.gz"
        target.write_bytes(archive(target.name.removesuffix(".tar.gz"), files, date))
        say(f"{target}: {', '.join(sorted({test.program for test in tests}))}")


if __name__ == "__main__":
    settings.main({"write": write}, __doc__)
