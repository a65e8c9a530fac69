# SPDX-License-Identifier: GPL-2.0-only
"""What run.sh does on a machine that is not one of ours, with programs that only print."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any
from unittest import mock

import hardware
import judge
import tarball
from console import Line
from settings import HERE, TREES

IDENTITY = """\
echo "TAP version 13"
echo 1..1
echo "ok 1 /dev/kvm works"
echo "# memtype-cell: row=kernel: pages effective=4K forced=no"
echo "# memtype-cell: row=CPU: SVM effective={svm} forced=no"
echo "# memtype-cell: row=CPU: CLWB effective=yes forced=no"
"""
# Prints one cell for each argument.
TYPES = """\
echo "TAP version 13"
echo 1..1
for cell; do echo "# memtype-cell: row=${cell%=*} effective=${cell#*=} forced=no"; done
echo "ok 1 types"
"""
SKIPS = """\
echo "TAP version 13"
echo 1..2
echo "ok 1 types"
echo "ok 2 other # SKIP no device"
"""
ROWS = {"kernel: pages": {"amd": "4K", "intel": "4K"}, "CPU: SVM": {"amd": "yes", "intel": "no"},
        "CPU: CLWB": {"amd": "no", "intel": "no"}}


def entry(suite: str, **values: Any) -> dict[str, Any]:
    """A test as tests.json has it."""
    return {"suite": suite, "program": suite, "machines": ["amd"], **values}


class Run(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        (self.top / "tools").symlink_to(TREES["patched"] / "tools")
        (self.top / "kvm").mkdir()
        self.program(hardware.IDENTITY, IDENTITY.format(svm="yes"))

    def program(self, name: str, script: str) -> None:
        (self.top / name).write_text(f"#!/bin/sh\n{script}")
        (self.top / name).chmod(0o755)

    def run_kit(self, *tests: dict[str, Any], words: tuple[str, ...] = ()) -> tuple[int, str]:
        """The exit status and the output of run.sh with these tests."""
        kit = {"arch": "x86_64", "commit": "c0ffee", "base": "Linux 6.12",
               "machines": {"amd": "KVM-AMD", "intel": "KVM-Intel"},
               "tests": [entry(hardware.IDENTITY, machines=["amd", "intel"], rows=ROWS), *tests]}
        (self.top / "tests.json").write_text(json.dumps(kit))
        said, kernel = io.StringIO(), mock.Mock()
        kernel.return_value.lines.return_value, kernel.return_value.files = [], []
        with contextlib.redirect_stdout(said), mock.patch.multiple(
                hardware, REPO=self.top, LIST=self.top / "tests.json", OUT=self.top / "out",
                KernelLog=kernel), mock.patch("os.geteuid", return_value=0), mock.patch(
                "platform.machine", return_value="x86_64"), mock.patch(
                "sys.argv", ["hardware.py", *words]):
            status = hardware.main()
        return status, said.getvalue()

    def matrix(self) -> dict[str, Any]:
        return dict(json.loads((self.top / "out/matrix.json").read_text()))

    def leaves(self, said: str) -> dict[str, str]:
        """Test → status, by the kernel's own parser, which must find nothing wrong."""
        found, errors = judge.parse_ktap(judge.kunit_parser(self.top), said.splitlines())
        self.assertEqual(errors, [])
        return {leaf.path: leaf.status for leaf in found}

    def test_as_the_tables_say(self) -> None:
        self.program("kvm/types", TYPES)
        status, said = self.run_kit(entry("kvm/types", args=["guest WC=WC"],
                                          rows={"guest WC": {"amd": "WC", "intel": "forced"}}))
        self.assertEqual(status, 0)
        self.assertIn("like amd", said)
        self.assertEqual(self.leaves(said), {
            "kvm/memtype_host_test./dev/kvm works": "SUCCESS",
            "kvm/memtype_host_test.kernel: pages": "SUCCESS",
            "kvm/memtype_host_test.CPU: SVM": "SUCCESS",
            # Which decides nothing.
            "kvm/memtype_host_test.CPU: CLWB": "SKIPPED",
            "kvm/types.types": "SUCCESS", "kvm/types.guest WC": "SUCCESS"})
        # One plan is not indented.
        self.assertEqual([line for line in said.splitlines() if line.startswith("1..")], ["1..2"])

    def test_wrong_type(self) -> None:
        self.program("kvm/types", TYPES)
        status, said = self.run_kit(entry("kvm/types", args=["guest WC=UC"],
                                          rows={"guest WC": {"amd": "WC"}}))
        self.assertEqual(status, 1)
        self.assertIn("# guest WC: fail: is UC, expected WC", said)
        self.assertRegex(said, r"(?m)^  not ok \d guest WC$")
        self.assertRegex(said, r"(?m)^not ok 2 kvm/types$")
        self.assertIn("UC ≠ WC", (self.top / "out/report.html").read_text())
        junit = xml.parse(self.top / "out/junit.xml").getroot()
        self.assertEqual(junit.get("failures"), "1")

    def test_unknown_machine(self) -> None:
        self.program(hardware.IDENTITY, IDENTITY.format(svm="perhaps"))
        self.program("kvm/types", TYPES)
        status, said = self.run_kit(entry("kvm/types", args=["guest WC=UC"],
                                          rows={"guest WC": {"amd": "WC"}}))
        self.assertEqual(status, 0)
        self.assertIn("the tables know no machine of this kind", said)
        self.assertRegex(said, r"(?m)^  ok \d guest WC # SKIP reported, not compared: ")
        self.assertIn("no machine of this kind", self.matrix()["environment"]["note"])
        cell = next(one for one in self.matrix()["results"] if one["row"] == "guest WC")
        self.assertEqual((cell["status"], cell["value"]), ("skip", "UC"))

    def test_program_that_says_what_the_machine_is_fails(self) -> None:
        self.program(hardware.IDENTITY, IDENTITY.format(svm="yes") + "exit 1\n")
        status, said = self.run_kit()
        self.assertEqual(status, 1)
        self.assertIn("the tables know no machine of this kind", said)

    def test_test_that_does_not_say_what_the_machine_is(self) -> None:
        self.program(hardware.IDENTITY, IDENTITY.format(svm="yes").replace("ok 1", "not ok 1")
                     + "exit 1\n")
        status, said = self.run_kit()
        self.assertEqual(status, 1)
        self.assertIn("this machine is like amd", said)

    def test_missing_program(self) -> None:
        status, said = self.run_kit(entry("kvm/none", rows={"guest WC": {"amd": "WC"}}))
        self.assertEqual(status, 1)
        self.assertIn("# program: fail: the program does not start: No such file", said)
        self.assertRegex(said, r"(?m)^  ok \d guest WC # SKIP because of hardware kvm/none prog")
        self.assertRegex(said, r"(?m)^not ok 2 kvm/none$")

    def test_output_cannot_be_written(self) -> None:
        """The file cannot be opened, or the disk is full: the program is not to blame for that."""
        for command, why in (("ln -s /dev/full", "No space left on device"),
                             ("mkdir", "Is a directory")):
            with self.subTest(command):
                self.program(hardware.IDENTITY, IDENTITY.format(svm="yes")
                             + f"{command} out/kvm.types.ktap\n")
                self.program("kvm/types", TYPES + "exec sleep 60\n")
                status, said = self.run_kit(entry("kvm/types"), entry("kvm/none"))
                self.assertEqual(status, 1)
                self.assertIn("# program: fail: cannot write the program's output to "
                              f"{self.top}/out/kvm.types.ktap: {why}", said)
                # The others run.
                self.assertRegex(said, r"(?m)^not ok 3 kvm/none$")

    def test_missing_row(self) -> None:
        self.program("kvm/types", TYPES)
        status, said = self.run_kit(entry("kvm/types", rows={"guest WC": {"amd": "WC"}}))
        self.assertEqual(status, 1)
        self.assertIn("# guest WC: fail: the program did not print this row", said)

    def test_skips(self) -> None:
        """A test that is skipped here and not there may be why a row is missing."""
        self.program("kvm/skips", SKIPS)
        test = entry("kvm/skips", rows={"guest WC": {"amd": "WC"}})
        status, said = self.run_kit(test)
        self.assertEqual(status, 0)
        self.assertRegex(said, r"(?m)^  ok \d guest WC # SKIP the program skipped tests here: ")
        status, said = self.run_kit({**test, "skips": {"amd": {"other": "no device"}}})
        self.assertEqual(status, 1)
        self.assertIn("# guest WC: fail: the program did not print this row", said)

    def test_all_skipped(self) -> None:
        self.program(hardware.IDENTITY, 'echo "1..0 # SKIP no KVM"\nexit 4\n')
        status, said = self.run_kit()
        self.assertEqual(status, 4)
        self.assertIn("ok 1 kvm/memtype_host_test # SKIP no KVM", said)

    def test_exit_codes_and_signals(self) -> None:
        for script, reason in (("exit 3\n", "exit code 3"), ("kill -9 $$\n", "signal 9")):
            with self.subTest(script):
                self.program("kvm/types", TYPES + script)
                status, said = self.run_kit(entry("kvm/types"))
                self.assertEqual(status, 1)
                self.assertIn(reason, said)

    def test_interrupt(self) -> None:
        self.program("kvm/types", TYPES + "sleep 1; kill -INT $PPID; exec sleep 60\n")
        status, said = self.run_kit(entry("kvm/types"), entry("kvm/later"))
        self.assertEqual(status, 1)
        self.assertIn("# program: hang: interrupted by the user", said)
        self.assertRegex(said, r"(?m)^not ok 2 kvm/types$")
        self.assertRegex(said, r"(?m)^  ok 1 program # SKIP because of hardware kvm/types prog")

    def test_as_another_machine_runs_it(self) -> None:
        """The arguments are those of the machine that this one is like, if it has some."""
        self.program("kvm/types", TYPES)
        tests = (entry("kvm/types", args=["a=b"], machines=["intel"]),
                 entry("kvm/types", args=["guest WC=WC"], rows={"guest WC": {"amd": "WC"}}))
        status, said = self.run_kit(*tests)
        self.assertEqual(status, 0)
        self.assertIn("guest WC: WC", said)
        self.assertNotIn("a: b", said)

    def test_only_some(self) -> None:
        status, said = self.run_kit(entry("kvm/none"), words=("kvm/memtype_h*",))
        self.assertEqual(status, 0)
        self.assertNotIn("kvm/none", said)
        self.assertEqual(self.matrix()["environment"]["command"], "./run.sh kvm/memtype_h*")
        error = io.StringIO()
        with contextlib.redirect_stderr(error), self.assertRaises(SystemExit):
            self.run_kit(words=("kvm/nobody",))
        self.assertIn("no test matches kvm/nobody", error.getvalue())

    def test_bar(self) -> None:
        bar = str(self.top / "resource0")
        Path(bar).touch()
        self.program("kvm/types", 'echo "TAP version 13"; echo 1..1; echo "ok 1 $MEMTYPE_BAR"\n')
        with mock.patch.dict(os.environ):
            said = self.run_kit(entry("kvm/types"), words=("--bar", bar))[1]
        self.assertIn(f"ok 1 {bar}", said)
        self.assertEqual(self.matrix()["results"][-1]["repeat"], f"./run.sh --bar {bar} kvm/types")
        # It says so before anything runs.
        for words, why in ((("--bar", f"{bar}2"), "resource02: no such file"),
                           (("--bar", bar, "kvm/types"), "--bar is for kvm/memtype_speed")):
            error = io.StringIO()
            with contextlib.redirect_stderr(error), self.assertRaises(SystemExit):
                self.run_kit(entry("kvm/types"), words=words)
            self.assertIn(why, error.getvalue())

    def test_environment(self) -> None:
        self.program("memtype-example", "echo RAM; echo /sys/kernel/debug/kvm/1-2/memtype:; "
                     "echo table\n")
        self.program("kvm-memtype", "echo seen; cat $1\n")
        self.run_kit()
        environment = self.matrix()["environment"]
        self.assertEqual(environment["kvm-memtype"], "RAM\nseen\ntable")
        for key in ("CPU", "firmware", "IOMMU", "kernel command line", "kernel"):
            self.assertTrue(environment[key], key)


class Words(unittest.TestCase):
    def test_kernel_line(self) -> None:
        self.assertEqual(hardware.kernel_line("4,12,345,-;WARNING: bad\n SUBSYSTEM=pci\n"),
                         Line("WARNING: bad", True, "WARNING: bad"))
        self.assertIsNone(hardware.kernel_line("12,12,345,-;WARNING: says a user\n"))

    def test_no_directive_in_a_name(self) -> None:
        self.assertEqual(hardware.ktap_result(1, "pass", "a # SKIP b", ""), "ok 1 a _ SKIP b")


class Script(unittest.TestCase):
    def test_all_that_it_imports_is_there(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            top = Path(scratch)
            for name in tarball.PYTHON:
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_bytes((TREES["patched"] / name).read_bytes())
            (top / "run.sh").write_bytes((HERE / "run.sh").read_bytes())
            done = subprocess.run(["sh", top / "run.sh", "--help"], cwd="/", text=True,
                                  capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("usage: run.sh", done.stdout)

    def test_without_python(self) -> None:
        done = subprocess.run(["/bin/sh", HERE / "run.sh"], text=True, capture_output=True,
                              check=False, env={"PATH": "/nowhere"})
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main()
