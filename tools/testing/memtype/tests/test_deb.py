# SPDX-License-Identifier: GPL-2.0-only
"""`make deb`: what is refused, which option wins, the package of the tools, and that a machine that
does not show what it must is an error."""

from __future__ import annotations

import dataclasses
import lzma
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import build
import deb
import debian
import settings
import tables
from settings import ARCHES, Error

# Stands for an emulator: its console says what it was told to do.
EMULATOR = """#!/bin/sh
while [ "$1" != -serial ]; do shift; done
console=${{2#file:}}
while [ "$1" != -append ]; do shift; done
{}
"""


class Deb(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        for name in ("BUILD", "OUT"):
            self.enterContext(mock.patch.object(deb, name, self.top / name))
        self.enterContext(mock.patch.object(deb, "say"))
        self.choose(deb, KCONFIG="small", ARCH="x86_64")

    def choose(self, module: object, **values: object) -> None:
        for name, value in values.items():
            self.enterContext(mock.patch.object(module, name, value))


class Choices(Deb):
    def test_arch(self) -> None:
        self.assertEqual(deb.chosen(), ["x86_64"])
        self.choose(deb, ARCH="")
        self.assertEqual(deb.chosen(), list(ARCHES))
        self.choose(deb, ARCH="amd64")
        with self.assertRaisesRegex(Error, "ARCH=amd64: must be one of x86_64, arm64"):
            deb.write()

    def test_kernel(self) -> None:
        self.choose(settings, KERNEL="base")
        with self.assertRaisesRegex(Error, "KERNEL=base: "):
            deb.write()

    def test_shallow(self) -> None:
        self.enterContext(mock.patch.object(deb, "output", return_value="true\n"))
        with self.assertRaisesRegex(Error, "git fetch --unshallow .*fetch-depth: 0, .*GIT_DEPTH"):
            deb.write()

    def test_kconfig(self) -> None:
        self.choose(deb, KCONFIG="tiny")
        said = "KCONFIG={}: must be debian, small or a text file: "
        with self.assertRaisesRegex(Error, f"{said.format('tiny')}.*No such file"):
            deb.configure("x86_64", self.top)
        binary = self.top / "config.gz"
        binary.write_bytes(b"\x1f\x8b\xff")
        self.choose(deb, KCONFIG=str(binary))
        with self.assertRaisesRegex(Error, said.format(binary)):
            deb.configure("x86_64", self.top)
        self.choose(deb, ARCH="")
        with self.assertRaisesRegex(Error, "is for one architecture: name it by ARCH="):
            deb.write()

    def configured(self) -> tuple[str, list[str]]:
        """What the configuration starts from, and the fragments."""
        with mock.patch.object(build, "configure") as configure:
            deb.configure("arm64", self.top)
        options = configure.call_args.kwargs
        return options["start"], [path.name for path in options["files"]]

    def test_fragments(self) -> None:
        """Ours are the last, and of a whole configuration the only ones."""
        self.assertEqual(self.configured(), ("", ["deb.config", "deb_arm64.config",
                                                  "production.config"]))
        (self.top / "mine").write_text("CONFIG_A=y\n")
        self.choose(deb, KCONFIG=str(self.top / "mine"))
        self.assertEqual(self.configured(), ("CONFIG_A=y\n", ["production.config"]))

    def test_debian(self) -> None:
        """Of the base's own package, from where the source of that base comes."""
        self.choose(deb, KCONFIG="debian")
        for base in settings.BASES:
            self.choose(settings, BASE=base)
            path = f"usr/src/linux-config-{base}/config.arm64_none_arm64.xz"
            (self.top / path).parent.mkdir(parents=True)
            (self.top / path).write_bytes(lzma.compress(b"CONFIG_B=y\n"))
            with mock.patch.object(debian, "unpacked", return_value=self.top) as unpacked:
                self.assertEqual(self.configured(), ("CONFIG_B=y\n", ["production.config"]))
            unpacked.assert_called_once_with(f"linux-config-{base}", "arm64",
                                             settings.BASES[base].suites)

    def test_debian_that_cannot_be_had(self) -> None:
        self.choose(deb, KCONFIG="debian")
        said = "KCONFIG=debian: linux-config-.* cannot be had for arm64; name a file"
        with mock.patch.object(debian, "unpacked", side_effect=Error("E: no such package")), \
                self.assertRaisesRegex(Error, f"{said}(.|\n)*E: no such package"):
            deb.configure("arm64", self.top)
        with mock.patch.object(debian, "unpacked", return_value=self.top), \
                self.assertRaisesRegex(Error, said):
            deb.configure("arm64", self.top)


class Configuration(Deb):
    """By the kernel's own Kconfig."""

    def configure(self, start: str) -> set[str]:
        (self.top / "mine").write_text(start)
        self.choose(deb, KCONFIG=str(self.top / "mine"))
        deb.configure("x86_64", self.top / "objects")
        return set((self.top / "objects/.config").read_text().splitlines())

    def test_whole(self) -> None:
        mine = ["CONFIG_64BIT=y", "CONFIG_VIRTUALIZATION=y", "CONFIG_KVM=m", "CONFIG_VFIO=m",
                "CONFIG_MODULES=y", "CONFIG_KVM_INTEL=m", "CONFIG_IOMMU_SUPPORT=y"]
        lines = self.configure("\n".join([
            *mine, 'CONFIG_LOCALVERSION="-mine"', "CONFIG_DEBUG_KERNEL=y", "CONFIG_KUNIT=y",
            "CONFIG_DEBUG_INFO_DWARF5=y", "CONFIG_KVM_MEMTYPE_KUNIT_TEST=y",
            "CONFIG_KVM_MEMTYPE_PROBE=y", ""]))
        self.assertLessEqual({*mine, 'CONFIG_LOCALVERSION="-memtype"', "CONFIG_KVM_MEMTYPE=y",
                              "CONFIG_DMA_CACHE=y", "CONFIG_DEBUG_INFO_NONE=y",
                              "# CONFIG_KUNIT is not set",
                              "# CONFIG_LOCALVERSION_AUTO is not set"}, lines)
        self.assertNotIn("CONFIG_KVM_MEMTYPE_KUNIT_TEST=y", lines)
        self.assertNotIn("CONFIG_KVM_MEMTYPE_PROBE=y", lines)

        # The same directory, and a configuration that ours cannot go on.
        with self.assertRaisesRegex(Error, "did not survive(.|\n)*CONFIG_KVM_MEMTYPE=y"):
            self.configure("CONFIG_64BIT=y\n# CONFIG_VIRTUALIZATION is not set\n")

    def test_lost(self) -> None:
        wanted = {"CONFIG_A": 'CONFIG_A=""', "CONFIG_B": "# CONFIG_B is not set",
                  "CONFIG_C": 'CONFIG_C="c"'}
        self.assertEqual(build.lost_options(wanted, ""), ['CONFIG_C="c"'])
        self.assertEqual(build.lost_options(wanted, 'CONFIG_A="a"\nCONFIG_B=m\nCONFIG_C="c"\n'),
                         ['CONFIG_A=""', "# CONFIG_B is not set"])


class Tools(Deb):
    def test_package(self) -> None:
        for arch, item in ARCHES.items():
            deb.tools(arch, "6.12.1-7", "Jane Doe <jane@example.org>")
            package, = deb.below(self.top / "BUILD", arch).glob("*.deb")
            self.assertEqual(package.name, f"memtype-tools_6.12.1-7_{item.debian}.deb")
            said = settings.output(["dpkg-deb", "--field", package])
            for line in ("Package: memtype-tools", "Version: 6.12.1-7",
                         f"Architecture: {item.debian}", "Maintainer: Jane Doe <jane@example.org>"):
                self.assertIn(f"{line}\n", said)
            listed = settings.output(["dpkg-deb", "--contents", package])
            for mode, name in (
                    ("-rwxr-xr-x", "sbin/kvm-memtype"), ("-rwxr-xr-x", "bin/memtype-example"),
                    ("-rw-r--r--", "share/man/man8/kvm-memtype.8"),
                    ("-rw-r--r--", "share/kvm-memtype/kvm-memtype.schema.json"),
                    ("-rw-r--r--", "share/bash-completion/completions/kvm-memtype"),
                    ("-rw-r--r--", "share/doc/memtype-tools/copyright")):
                self.assertRegex(listed, rf"(?m)^{mode} root/root .* \./usr/{name}$")
            program = deb.below(self.top / "BUILD", arch) / "memtype-tools/usr/bin/memtype-example"
            self.assertNotIn("NEEDED", settings.output(["readelf", "-d", program]))
            self.assertIn({"x86_64": "X86-64", "arm64": "AArch64"}[arch],
                          settings.output(["readelf", "-h", program]))


class Boot(Deb):
    def setUp(self) -> None:
        super().setUp()
        deb.below(self.top / "BUILD", "x86_64").mkdir(parents=True)

    def written(self, name: str) -> None:
        """What `make deb` wrote."""
        packages = deb.below(self.top / "OUT", "x86_64")
        packages.mkdir(parents=True)
        (packages / name).touch()

    def run_machine(self, script: str) -> str:
        emulator = self.top / "emulator"
        emulator.write_text(EMULATOR.format(script))
        emulator.chmod(0o755)
        item = dataclasses.replace(tables.all_machines()["x86-amd"], command=str(emulator))
        self.choose(deb, POLL=0.01)
        with mock.patch.object(tables, "all_machines", return_value={item.name: item}):
            return deb.run("x86_64", self.top / "disk", self.top / "kernel", "show")

    def test_done(self) -> None:
        """By its last line, and it has been told what to do, and from which disk."""
        said = self.run_machine('echo "$2" > $console; echo deb_init.sh: done: show >> $console')
        self.assertRegex(said, r" root=/dev/vda rw .* init=/deb_init\.sh -- show\n")

    def test_end(self) -> None:
        for last in ("Kernel panic", "deb_init.sh: done: install", "echo deb_init.sh: done: show"):
            with self.assertRaisesRegex(Error, f"show failed: the machine ended;(.|\n)*{last}"):
                self.run_machine(f'echo "{last}" > $console')

    def test_limit(self) -> None:
        self.choose(deb, LIMIT=0)
        with self.assertRaisesRegex(Error, "show failed: it used more than 0 s of CPU time"):
            self.run_machine("while :; do :; done")

    def test_no_package(self) -> None:
        self.written("memtype-tools_1_amd64.deb")
        with self.assertRaisesRegex(Error, "has no kernel: make deb KCONFIG=small ARCH=x86_64"):
            deb.boot()

    def test_another_kernel(self) -> None:
        """What was installed is what must run."""
        self.written("linux-image-6.1-memtype_6.1-7_amd64.deb")
        with mock.patch.object(deb, "make_disk"), mock.patch.object(deb, "dump") as dump, \
                mock.patch.object(deb, "run") as run:
            run.return_value = "boot\nuname -r: 6.1-memtype\ndeb_init.sh: done: show\n"
            deb.boot()
            self.assertEqual(dump.call_args.args[1], "/boot/vmlinuz-6.1-memtype")
            run.return_value = "uname -r: 6.2\ndeb_init.sh: done: show\n"
            with self.assertRaisesRegex(Error, "what runs is not 6.1-memtype"):
                deb.boot()

    def test_dump(self) -> None:
        """A kernel that is not on the disk, because nothing installed it, is an error."""
        disk, target = self.top / "disk", self.top / "kernel"
        (self.top / "root/boot").mkdir(parents=True)
        (self.top / "root/boot/vmlinuz-1").write_text("kernel")
        subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-d", self.top / "root", disk, "1M"],
                       check=True, stderr=subprocess.DEVNULL)
        deb.dump(disk, "/boot/vmlinuz-1", target)
        self.assertEqual(target.read_text(), "kernel")
        with self.assertRaisesRegex(Error, "disk has no /boot/vmlinuz-2"):
            deb.dump(disk, "/boot/vmlinuz-2", target)


if __name__ == "__main__":
    unittest.main()
