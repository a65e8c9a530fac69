# SPDX-License-Identifier: GPL-2.0-only
"""What every kernel build relies on."""

from __future__ import annotations

import os
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
                mock.patch.dict("os.environ", {"CCACHE_DEPEND": "1", "CCACHE_DIR": scratch}):
            top = Path(scratch)
            (top / "piggy.S").write_text('.incbin "kernel"\n')
            # The first is somebody else's, in the mode that does not see it.
            for kernel, env in (("a kernel", dict(os.environ)), ("b kernel", build.environment()),
                                ("c kernel", build.environment())):
                (top / "kernel").write_text(kernel)
                subprocess.run(["ccache", "gcc", "-Wp,-MMD,piggy.d", "-c", "piggy.S"], cwd=top,
                               env=env, check=True)
                self.assertIn(kernel.encode(), (top / "piggy.o").read_bytes())


if __name__ == "__main__":
    unittest.main()
