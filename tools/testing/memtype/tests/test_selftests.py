# SPDX-License-Identifier: GPL-2.0-only
"""Whoever builds kselftest's collections gets our programs, too."""

import subprocess
import unittest

from settings import REPO, TREES

SELFTESTS = "tools/testing/selftests"
IOMMU = f"{SELFTESTS}/iommu"


class Iommu(unittest.TestCase):
    def test_all_are_listed(self) -> None:
        listed = subprocess.run(
            ["make", "-s", "-C", TREES["patched"] / IOMMU, "OUTPUT=.",
             "--eval=list: ; @echo $(notdir $(TEST_GEN_PROGS))", "list"],
            check=True, capture_output=True, text=True).stdout.split()
        ours = {source.stem for source in (REPO / IOMMU).glob("*.c")}
        self.assertTrue(ours)
        self.assertEqual(ours - set(listed), set())


class Collections(unittest.TestCase):
    """The directories that have programs of ours."""

    OURS = sorted({path.parent.name for path in (REPO / SELFTESTS).glob("*/*.c")})

    def test_are_targets(self) -> None:
        listed = (TREES["patched"] / SELFTESTS / "Makefile").read_text()
        self.assertIn("kvm", self.OURS)
        for name in self.OURS:
            self.assertIn(f"\nTARGETS += {name}\n", listed)

    def test_say_what_they_need(self) -> None:
        for name in self.OURS:
            directory = TREES["patched"] / SELFTESTS / name
            self.assertRegex((directory / "settings").read_text(), r"^timeout=\d+\n$")
            options = (directory / "config").read_text().splitlines()
            self.assertEqual(len(options), len(set(options)))
        for name, option in (("kvm", "CONFIG_MEMTYPE_TEST=y"), ("iommu", "CONFIG_VFIO_MOCK=y")):
            self.assertIn(option, (TREES["patched"] / SELFTESTS / name / "config").read_text())


if __name__ == "__main__":
    unittest.main()
