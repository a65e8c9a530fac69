# SPDX-License-Identifier: GPL-2.0-only
"""The entry points: make and setup.sh, where the machine or the path is not what they like."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from settings import ARCHES, BUILD, HERE, REPO


class Entry(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)

    def clean(self) -> dict[str, str]:
        """The environment without what the outer make exports."""
        return {key: value for key, value in os.environ.items() if key not in (
            "BUILD", "OUT", "BASE", "KSRC", "KERNEL", "CONFIG", "MACHINE", "TEST", "HOOK", "JOBS",
            "KCONFIG", "ARCH")}

    def make(self, *words: str, cwd: Path = REPO) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", *words], cwd=cwd, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              env=self.clean())

    def test_help_names_every_target(self) -> None:
        done = self.make("help")
        for target in ("matrix", "test", "check", "list", "shell", "report", "tool", "tree",
                       "series", "bisect", "mutate", "bench", "compat", "vmm", "qemu",
                       "selftests-tar", "ci-jobs", "deb", "deb-boot", "refresh", "setup",
                       "clean"):
            self.assertRegex(done.stdout, rf"\n  {target} +[A-Z]")

    def test_vmm(self) -> None:
        """Whoever runs its machines gets its packages, once, and results where they belong."""
        for words in (["vmm"], ["matrix", "CONFIG=vmm"], ["vmm", "CONFIG=vmm", "OUT="]):
            done = self.make("-n", *words)
            with self.subTest(words):
                self.assertIn("setup.sh matrix vmm qemu\n", done.stdout)
                if "vmm" in words:
                    self.assertIn("CONFIG=vmm OUT='out/vmm' ", done.stdout)

    def test_qemu(self) -> None:
        """What builds QEMU is for that, and for the machines that it runs in."""
        self.assertIn("setup.sh qemu\n", self.make("-n", "qemu").stdout)
        self.assertIn("setup.sh matrix test qemu\n", self.make("-n", "test", "qemu").stdout)
        self.assertIn("setup.sh matrix\n", self.make("-n", "matrix").stdout)

    def test_deb(self) -> None:
        self.assertIn("setup.sh deb\n", self.make("-n", "deb", "ARCH=arm64").stdout)
        # Whatever KCONFIG= is, what is booted is the kernel for QEMU.
        said = self.make("-n", "deb-boot", "KCONFIG=debian").stdout
        self.assertIn("setup.sh deb\n", said)
        self.assertEqual(re.findall(r"^KCONFIG=small .*/deb.py (\w+)$", said, re.M),
                         ["write", "boot"])

    def test_ci_jobs(self) -> None:
        self.assertIn("setup.sh ci-jobs\n", self.make("-n", "ci-jobs").stdout)

    def test_build_path_that_kbuild_refuses(self) -> None:
        for path in ("/tmp/a b", "/tmp/a:b", "a b"):
            done = self.make("matrix", f"BUILD={path}")
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(len(done.stdout.splitlines()), 1, done.stdout)
            self.assertIn("set BUILD=", done.stdout)

    def test_clone_path_with_spaces(self) -> None:
        clone = self.top / "a clone"
        shutil.copytree(REPO, clone, symlinks=True,
                        ignore=lambda folder, names: [name for name in names if Path(folder, name)
                                                      in (BUILD, REPO / "build", REPO / "out")])
        done = self.make("matrix", f"BUILD={BUILD}", "MACHINE=arm64-nofwb",
                         "TEST=kvm/memtype_host_test", cwd=clone)
        self.assertEqual(done.returncode, 0, done.stdout)
        matrix = json.loads((clone / "out/matrix.json").read_text())
        self.assertEqual({result["status"] for result in matrix["results"]}, {"pass"})

        # The same clone, with a test that fails.
        with (clone / "tools/testing/memtype/tests.toml").open("a") as tests:
            tests.write('\n[[test]]\nsuite = "memtype/misbehave"\nargs = ["fail"]\n')
        done = self.make("matrix", f"BUILD={BUILD}", "MACHINE=arm64-nofwb",
                         "TEST=memtype/misbehave", cwd=clone)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("FAIL memtype/misbehave broken\n  on arm64-nofwb\n", done.stdout)
        self.assertIn(f"make matrix MACHINE=arm64-nofwb TEST=memtype/misbehave BUILD={BUILD}",
                      done.stdout)

    def test_shell(self) -> None:
        shell = subprocess.Popen(["make", "shell", f"BUILD={BUILD}", "MACHINE=x86-amd"], cwd=REPO,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, env=self.clean(),
                                 start_new_session=True)
        # Only for a shell that hangs, however slow the machine is.
        guard = threading.Timer(1800, os.killpg, (shell.pid, signal.SIGKILL))
        guard.start()
        assert shell.stdin and shell.stdout
        with shell.stdin, shell.stdout:
            said = b""
            while b"/ # " not in said:
                new = os.read(shell.stdout.fileno(), 1 << 16)
                self.assertTrue(new, said.decode(errors="replace"))
                said += new
            shell.stdin.write(b"uname -m; exit\n")
            shell.stdin.flush()
            said = shell.stdout.read()
        self.assertEqual(shell.wait(), 0)
        guard.cancel()
        self.assertIn(b"\nx86_64", said)
        done = self.make("shell", f"BUILD={BUILD}", "MACHINE=x86-intel")
        self.assertIn("no interactive console", done.stdout)

    def test_clean_leaves_other_files(self) -> None:
        build = self.top / "build"
        (build / "linux").mkdir(parents=True)
        (build / "7.3/linux").mkdir(parents=True)
        (build / "deb/arm64-small").mkdir(parents=True)
        (build / "bisect").mkdir()
        for name in ("vfio-user", "cache-engine", "cache-plugin.so", "dma-cache-lines"):
            (build / name).write_text("")
        out = self.top / "out"
        (out / "7.3/bench").mkdir(parents=True)
        (out / "bench/base").mkdir(parents=True)
        (out / "compat").mkdir()
        for name in ("base", "bisect", "deb", "series"):
            (out / name).mkdir()
        for name in ("bench.json", "compat.json", "memtype-selftests-arm64.tar.gz"):
            (out / name).write_text("")
        for directory in (build, out):
            (directory / "mine").write_text("")
        self.make("clean", f"BUILD={build}", f"OUT={out}")
        for directory in (build, out):
            self.assertEqual([path.name for path in directory.iterdir()], ["mine"])

    def test_scripts_say_what_they_do(self) -> None:
        for script in [*sorted(HERE.glob("*.sh")), *sorted(
                path for path in HERE.glob("*.py") if "settings.main(" in path.read_text())]:
            command = [*([] if script.suffix == ".sh" else [sys.executable, "-B"]), str(script)]
            done = subprocess.run([*command, "--help"], text=True, capture_output=True, check=False)
            with self.subTest(script.name):
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn(f"usage: {script.name}", done.stdout)
                wrong = subprocess.run([*command, "nonsense"], text=True, capture_output=True,
                                       check=False)
                self.assertEqual(wrong.returncode, 2)
                self.assertIn(f"usage: {script.name}", wrong.stderr)

    def test_one_build_at_a_time(self) -> None:
        """Whoever comes second is told who is first; a command that the first starts is not."""
        hold = ("import settings, subprocess, sys\nwith settings.locked():\n"
                "    print('held', flush=True)\n    input()\n"
                "    sys.exit(subprocess.run(['make', 'clean']).returncode)\n")
        build = str(self.top / "build")
        environment = {**self.clean(), "BUILD": build, "OUT": build, "PYTHONPATH": str(HERE)}
        environment.pop("MEMTYPE_LOCKED", None)
        with subprocess.Popen([sys.executable, "-B", "-c", hold], text=True, cwd=REPO,
                              env=environment, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as first:
            assert first.stdin and first.stdout
            self.assertEqual(first.stdout.readline(), "held\n")
            done = self.make("clean", f"BUILD={build}", f"OUT={self.top}")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(f"error: {build} is in use by process {first.pid}, ", done.stdout)
            first.communicate("\n")
        self.assertEqual(first.returncode, 0)
        self.assertEqual(self.make("clean", f"BUILD={build}", f"OUT={self.top}").returncode, 0)

    def test_wrong_choices(self) -> None:
        for choice in ("KERNEL=vax", "CONFIG=fast", "JOBS=0", "MACHINE=vax"):
            done = self.make("list", choice)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("error: ", done.stdout)
            self.assertNotIn("Traceback", done.stdout)


class Setup(unittest.TestCase):
    """setup.sh on machines that this one is not, made of a PATH with stand-ins."""

    def run_on(self, *targets: str, **tools: str) -> subprocess.CompletedProcess[str]:
        """Runs it with the given scripts in the PATH, and little else."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch)
            for name in ("sh", "uname", "fold", "grep", "id", "sed", "dirname"):
                found = shutil.which(name)
                assert found
                (path / name).symlink_to(found)
            for name, text in tools.items():
                script = path / name.replace("_", "-")
                script.unlink(missing_ok=True)
                script.write_text(f"#!/bin/sh\n{text}\n")
                script.chmod(0o755)
            return subprocess.run([HERE / "setup.sh", *(targets or ["test"])], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                                  env={"PATH": scratch})

    def test_other_distribution(self) -> None:
        done = self.run_on(gcc="")
        self.assertEqual(done.returncode, 1)
        self.assertIn("this is not Debian", done.stdout)
        self.assertIn(" qemu-system-aarch64", done.stdout)
        self.assertNotIn(" gcc ", done.stdout.splitlines()[-1])

    def test_architectures(self) -> None:
        """What architectures.toml says that one needs is what gets installed."""
        said = self.run_on("matrix", dpkg_query="printf installed", apt_get="exit 1").stdout.split()
        for arch in ARCHES.values():
            self.assertLessEqual(set(arch.packages), set(said))

    def test_other_machine(self) -> None:
        done = self.run_on(uname="echo riscv64")
        self.assertEqual(done.returncode, 1)
        self.assertIn("riscv64", done.stdout)

    def test_neither_root_nor_sudo(self) -> None:
        done = self.run_on(id="echo 1000", apt_get="exit 1", dpkg_query="exit 1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("  apt-get install -y --no-install-recommends linux-source-6.12 gcc",
                      done.stdout)

    def test_sudo(self) -> None:
        done = self.run_on(id="echo 1000", dpkg_query="exit 1", apt_get="exit 1",
                           sudo='echo "sudo: $*"')
        self.assertEqual(done.returncode, 0, done.stdout)
        said, ran = done.stdout.split("sudo: apt-get update", 1)
        # The whole commands, before anything runs.
        self.assertIn("\n  sudo apt-get update -q\n", said)
        self.assertIn("\n  sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y "
                      "--no-install-recommends linux-source-6.12 gcc ", said)
        self.assertIn(" qemu-system-arm", said.splitlines()[-1])
        self.assertIn("sudo: env DEBIAN_FRONTEND=noninteractive apt-get install -y ", ran)

    def test_targets(self) -> None:
        tools = {"apt_get": "exit 1", "dpkg_query": "printf installed"}
        for targets, there, absent, minutes in (
                (["matrix"], "gcc", "sparse", 50),
                (["matrix", "test"], "sparse", "debootstrap", 60),
                (["matrix", "vmm"], "debootstrap", "sparse", 70),
                (["deb"], "debhelper", "sparse", 90)):
            done = self.run_on(*targets, **tools)
            with self.subTest(targets):
                self.assertRegex(done.stdout, rf"\b{there}\b")
                self.assertNotIn(absent, done.stdout)
                self.assertIn(f"about {minutes} minutes", done.stdout)
        self.assertEqual(self.run_on("vax", **tools).returncode, 2)

    def test_ci_jobs(self) -> None:
        """To write jobs, nothing is built: neither a toolchain nor this kind of machine matters."""
        tools = {"apt_get": "exit 1", "dpkg_query": "printf installed", "uname": "echo riscv64"}
        done = self.run_on("ci-jobs", **tools)
        self.assertEqual(done.stdout, "needs the packages: python3 python3-yaml\n")
        self.assertEqual(done.returncode, 0)

    def test_nothing_missing(self) -> None:
        done = self.run_on(apt_get="echo must not run; exit 1", dpkg_query="printf installed")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertNotIn("must not run", done.stdout)
        self.assertIn("disk", done.stdout)


if __name__ == "__main__":
    unittest.main()
