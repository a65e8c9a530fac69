# SPDX-License-Identifier: GPL-2.0-only
"""The tarballs for real hardware: what is in them, and the script that runs it."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

import tarball
from tables import Test
from settings import ARCHES, HERE


class Archive(unittest.TestCase):
    FILES = {"run.sh": b"#!/bin/sh\n", "kvm/program": b"\x7fELF...", "README": b"text"}

    def test_content(self) -> None:
        packed = tarball.archive("top", self.FILES, 1234)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            self.assertEqual([(item.name, item.mode, item.mtime, item.uid, item.gid, item.uname)
                              for item in tar.getmembers()],
                             [("top/README", 0o644, 1234, 0, 0, ""),
                              ("top/kvm/program", 0o755, 1234, 0, 0, ""),
                              ("top/run.sh", 0o755, 1234, 0, 0, "")])
            program = tar.extractfile("top/kvm/program")
            assert program
            self.assertEqual(program.read(), b"\x7fELF...")

    def test_reproducible(self) -> None:
        turned = dict(reversed(self.FILES.items()))
        self.assertEqual(tarball.archive("top", self.FILES, 1), tarball.archive("top", turned, 1))
        self.assertNotEqual(tarball.archive("top", self.FILES, 1),
                            tarball.archive("top", self.FILES, 2))

    def test_tests(self) -> None:
        for arch in ARCHES:
            listed = tarball.listing(tarball.ours(arch)).splitlines()
            self.assertIn("kvm/memtype_test", listed)
            self.assertEqual(len(listed), len(set(listed)))
            self.assertFalse([line for line in listed if line.startswith(
                ("kvm/set_memory", "kvm/memtype_linux_test", *tarball.EMULATED))])
        self.assertEqual(tarball.listing([Test("a", [], program="kvm/a", args=["-b", "1M"])]),
                         "kvm/a -b 1M\n")

    def test_options(self) -> None:
        for arch in ARCHES:
            options = tarball.options(arch)
            self.assertIn("CONFIG_KVM_MEMTYPE=y", options)
            self.assertIn("CONFIG_KVM_MEMTYPE_PROBE=y", options)
            self.assertFalse([line for line in options if "KUNIT" in line])


class Run(unittest.TestCase):
    """run.sh, with programs that only print their arguments and end with the first of them."""

    def run_listed(self, *lines: str) -> tuple[int, str]:
        with tempfile.TemporaryDirectory() as scratch:
            top = Path(scratch)
            (top / "run.sh").write_bytes((HERE / "run.sh").read_bytes())
            (top / "tests").write_text("".join(f"{line}\n" for line in lines))
            (top / "kvm").mkdir()
            (top / "kvm/end").write_text('#!/bin/sh\ncat\necho "args: $*"\nexit "$1"\n')
            (top / "kvm/end").chmod(0o755)
            done = subprocess.run(["sh", top / "run.sh"], cwd="/", text=True, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def test_output(self) -> None:
        self.assertEqual(self.run_listed("kvm/end 0 -b", "kvm/end 4"), (0, (
            "# run: kvm/end 0 -b\nargs: 0 -b\n# exit status 0: kvm/end\n"
            "# run: kvm/end 4\nargs: 4\n# exit status 4: kvm/end\n"
            "# programs: 1 passed, 0 failed, 1 skipped\n")))

    def test_exit_status(self) -> None:
        for codes, expected in (("0", 0), ("0 4", 0), ("0 1", 1), ("139", 1), ("4 4", 4), ("", 4),
                                ("1 4", 1)):
            with self.subTest(codes):
                lines = [f"kvm/end {code}" for code in codes.split()]
                self.assertEqual(self.run_listed(*lines)[0], expected)

    def test_program_that_is_missing(self) -> None:
        self.assertEqual(self.run_listed("kvm/end 0", "kvm/none")[0], 1)


if __name__ == "__main__":
    unittest.main()
