# SPDX-License-Identifier: GPL-2.0-only
"""Whoever builds kselftest's collections gets our programs, too."""

import subprocess
import unittest

from settings import REPO, TREES

IOMMU = "tools/testing/selftests/iommu"


class Iommu(unittest.TestCase):
    def test_all_are_listed(self) -> None:
        listed = subprocess.run(
            ["make", "-s", "-C", TREES["patched"] / IOMMU, "OUTPUT=.",
             "--eval=list: ; @echo $(notdir $(TEST_GEN_PROGS))", "list"],
            check=True, capture_output=True, text=True).stdout.split()
        ours = {source.stem for source in (REPO / IOMMU).glob("*.c")}
        self.assertTrue(ours)
        self.assertEqual(ours - set(listed), set())


if __name__ == "__main__":
    unittest.main()
