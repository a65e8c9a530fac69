# SPDX-License-Identifier: GPL-2.0-only
"""What every kernel build relies on."""

from __future__ import annotations

import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import build


class Ccache(unittest.TestCase):
    def test_incbin(self) -> None:
        """A boot image is an object that includes the kernel: another kernel, another object."""
        with tempfile.TemporaryDirectory() as scratch, \
                mock.patch.dict("os.environ", {"CCACHE_DEPEND": "1"}):
            top = Path(scratch)
            (top / "piggy.S").write_text('.incbin "kernel"\n')
            found = []
            for kernel in ("first kernel", "other kernel"):
                (top / "kernel").write_text(kernel)
                subprocess.run(["ccache", "gcc", "-Wp,-MMD,piggy.d", "-c", "piggy.S"], cwd=top,
                               env={**build.environment(), "CCACHE_DIR": f"{top}/cache"},
                               check=True)
                found.append(kernel.encode() in (top / "piggy.o").read_bytes())
        self.assertEqual(found, [True, True])


if __name__ == "__main__":
    unittest.main()
