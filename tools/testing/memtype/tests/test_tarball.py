# SPDX-License-Identifier: GPL-2.0-only
"""The tarballs for real hardware: what is in them. What runs it is in test_hardware.py."""

from __future__ import annotations

import io
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import hardware
import tables
import tarball
from settings import ARCHES


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
            tests = tarball.ours(arch)
            programs = {test.program for test in tests}
            self.assertEqual(tests[0].suite, hardware.IDENTITY)
            self.assertLessEqual({"kvm/memtype_test", "kvm/memtype_speed", "kvm/memtype_tool_test",
                                  "iommu/iommufd_noncoherent", "iommu/type1_noncoherent"}, programs)
            self.assertFalse(programs & {"kunit", "kvm/set_memory_region_test",
                                         "kvm/memtype_linux_test", *tarball.EMULATED})

    def test_emulated_are_there(self) -> None:
        known = {test.program for test in tables.all_tests(tables.all_machines())}
        self.assertLessEqual(set(tarball.EMULATED), known)

    def test_listing(self) -> None:
        """What run.sh reads is what the tables say, of this architecture."""
        for arch in ARCHES:
            with tempfile.NamedTemporaryFile() as listed:
                listed.write(tarball.listing(arch, tarball.ours(arch), "c0ffee", "Linux 6.12"))
                listed.flush()
                with mock.patch.object(hardware, "LIST", Path(listed.name)):
                    kit = hardware.load()
            self.assertEqual((kit.arch, kit.commit, kit.base), (arch, "c0ffee", "Linux 6.12"))
            machines = tables.all_machines()
            self.assertEqual({machines[name].arch for name in kit.machines}, {arch})
            rows = {test.suite: test.rows for test in tables.all_tests(machines)}
            for test in kit.tests:
                for names in (test.machines, test.skips, *test.rows.values()):
                    self.assertLessEqual(set(names), set(kit.machines))
            for row, values in kit.tests[0].rows.items():
                self.assertEqual(values, {
                    name: value for name, value in rows[hardware.IDENTITY][row].items()
                    if name in kit.machines})

    def test_every_kind_is_found(self) -> None:
        """Each machine is taken for itself, or for one of which it is a variant."""
        for arch in ARCHES:
            kit = hardware.Kit(arch, "", "", {name: "" for name, item in
                                              tables.all_machines().items() if item.arch == arch},
                               tarball.ours(arch))
            rows = kit.tests[0].rows
            for name in kit.machines:
                found = hardware.identify(kit, {row: values[name] for row, values in rows.items()
                                                if name in values})
                self.assertIn(found, tables.all_machines()[name].family)
            self.assertEqual(hardware.identify(kit, {}), "")

    def test_options(self) -> None:
        for arch in ARCHES:
            options = tarball.options(arch)
            self.assertIn("CONFIG_KVM_MEMTYPE=y", options)
            self.assertIn("CONFIG_KVM_MEMTYPE_PROBE=y", options)
            self.assertFalse([line for line in options if "KUNIT" in line])


if __name__ == "__main__":
    unittest.main()
