# SPDX-License-Identifier: GPL-2.0-only
"""CONFIG=coverage: in which objects gcov counts."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import build
import settings
import tree
from settings import ARCHES

NATIVE = next(name for name, item in ARCHES.items() if not item.cross)


class Profile(unittest.TestCase):
    """Which objects gcov counts in, as kbuild's own Makefile.lib decides it."""

    RULE = """\
GCOV_PROFILE := n
all: ; @$(MAKE) -s arch/x/kvm/../../../virt/kvm/ours.o mm/ours.o mm/other/ours.o mm/ours_kunit.o
%.o: ; @echo $@ '$(lastword $(CC))' $(if $(patsubst n%,,$(GCOV_PROFILE_x.o)$(GCOV_PROFILE)),counts)
"""

    def test_objects(self) -> None:
        names = ["virt/kvm/ours.c", "mm/ours.c", "mm/ours_kunit.c"]
        with tempfile.TemporaryDirectory() as scratch, \
                mock.patch.object(build, "objects", lambda arch: Path(scratch)), \
                mock.patch.object(tree, "kernel_sources", lambda arch: names):
            top = Path(scratch)
            (top / "Makefile").write_text(self.RULE)
            build.make("objects", NATIVE, top / "log", "-C", top, *build.profile(NATIVE))
            said = [line for line in (top / "log").read_text().splitlines() if ".o " in line]
            self.assertCountEqual(said, [
                f"arch/x/kvm/../../../virt/kvm/ours.o {top}/coverage.h counts",
                f"mm/ours.o {top}/coverage.h counts", "mm/other/ours.o gcc", "mm/ours_kunit.o gcc"])

    def test_instruments(self) -> None:
        for name in ("mm/dma_cache_kunit.c", "virt/kvm/memtype_probe.h", "mm/memtype_test.c",
                     "drivers/vfio/vfio_mock.c", "drivers/iommu/iommufd/selftest_shadow.c",
                     "drivers/iommu/iommufd/selftest.c", "drivers/iommu/iommufd/iommufd_test.h"):
            self.assertTrue(build.is_instrument(name), name)
        for name in ("mm/memtype.c", "virt/kvm/memtype.c", "drivers/iommu/iommufd/noncoherent.c"):
            self.assertFalse(build.is_instrument(name), name)

    def test_only_our_kernel(self) -> None:
        with mock.patch.object(settings, "CONFIG", "coverage"), \
                mock.patch.object(settings, "KERNEL", "base"), \
                self.assertRaisesRegex(settings.Error, "KERNEL=base lacks"):
            settings.check_choices()
