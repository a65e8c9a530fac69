# SPDX-License-Identifier: GPL-2.0-only
"""Jobs for CI systems: they are valid, and say what the tables say."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import string
import subprocess
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import ci
import machine
import settings
import tables
from settings import ARCHES, HERE, REPO
from tables import Machine, Test

# What a lab could have filled in.
LAB = {**{name: f"http://lab/{name.lower()}" for name in ci.VARIABLES},
       "DEVICE_TYPE": "board", "BOOT_METHOD": "u-boot"}
# LAVA's schemas are Debian's package for its own Python, whichever ours is.
SCHEMA = """
import sys, yaml
from lava_common.schemas import validate
from lava_common.schemas.test.testdef import validate as validate_test
for text in sys.stdin.read().split("\\0"):
    job = yaml.safe_load(text)
    validate(job)
    for action in job["actions"]:
        for definition in action.get("test", {}).get("definitions", []):
            validate_test(definition["repository"])
"""


def load(text: str) -> Any:
    return importlib.import_module("yaml").safe_load(text)


class Jobs(unittest.TestCase):
    machines: dict[str, Machine]
    tests: list[Test]
    files: dict[str, str]
    filled: dict[str, str]
    lava: dict[str, Any]

    @classmethod
    def setUpClass(cls) -> None:
        with mock.patch.multiple(settings, MACHINE="", TEST="", CONFIG="", KERNEL="patched"):
            cls.machines, cls.tests = tables.select()
            cls.files = ci.jobs()
        cls.filled = {name: string.Template(text).safe_substitute(LAB)
                      for name, text in cls.files.items()}
        cls.lava = {name: load(text) for name, text in cls.filled.items()
                    if name.startswith("lava-")}

    def emulated(self) -> Iterator[tuple[Machine, dict[str, Any], list[dict[str, Any]]]]:
        """Each machine that has a job, with the job and what its actions are."""
        for name, item in self.machines.items():
            job = self.lava.get(f"lava-{name}.yaml")
            if job:
                yield item, job, [next(iter(action.values())) for action in job["actions"]]

    def test_files(self) -> None:
        for name in ("x86-amd", "x86-amd-shadow", "arm64-nofwb", "arm64-64k"):
            self.assertIn(f"lava-{name}.yaml", self.files)
        # Bochs, a newer QEMU, a process of ours.
        for name in ("x86-intel", "arm64-dic", "x86-amd-user", "x86-amd-cache"):
            self.assertIn(name, self.machines)
            self.assertNotIn(f"lava-{name}.yaml", self.files)
        for arch in ARCHES:
            self.assertIn(f"lava-board-{arch}.yaml", self.files)
            self.assertIn(f"tuxrun-{arch}.sh", self.files)
        self.assertIn("kernelci.yaml", self.files)

    def test_fewer(self) -> None:
        with mock.patch.multiple(settings, MACHINE="arm64-nvhe", TEST="kunit"):
            self.assertEqual(set(ci.jobs()), {"lava-arm64-nvhe.yaml", "lava-board-arm64.yaml",
                                              "tuxrun-arm64.sh"})
        with mock.patch.multiple(settings, MACHINE="x86-intel", TEST=""), \
                self.assertRaisesRegex(settings.Error, "none of these machines"):
            ci.write(Path("/nonexistent"))

    def test_schema(self) -> None:
        """LAVA's own, which also says that each method and each kind of action exists."""
        if subprocess.run(["/usr/bin/python3", "-c", "import lava_common.schemas"], check=False,
                          stderr=subprocess.DEVNULL).returncode:
            self.skipTest("LAVA's schemas are not there (Debian's lava-common)")
        jobs = [text for name, text in self.filled.items() if name in self.lava]
        subprocess.run(["/usr/bin/python3", "-c", SCHEMA], input="\0".join(jobs), text=True,
                       check=True)
        for old, new in (("method: qemu", "method: qem"), ("monitors:", "monitor:"),
                         ("device_type: qemu", "device: qemu")):
            self.assertIn(old, jobs[0])
            done = subprocess.run(["/usr/bin/python3", "-c", SCHEMA], text=True, check=False,
                                  input=jobs[0].replace(old, new), stderr=subprocess.PIPE)
            self.assertNotEqual(done.returncode, 0, new)

    def test_variables(self) -> None:
        """Each file says what its variables are, has nothing else that envsubst would replace, and
        no host is in it."""
        for name, text in self.files.items():
            used = {braced or bare for braced, bare in
                    re.findall(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", text)}
            comments = set(re.findall(r"^# \$\{(\w+)\}: .", text, re.M))
            if name.endswith(".yaml"):
                self.assertEqual(used, comments, name)
                self.assertTrue(used, name)
            self.assertNotRegex(text, r"https?://|ftp://", name)
            self.assertNotRegex(self.filled[name], r"\$\{\w+\}", name)

    def test_machine(self) -> None:
        """QEMU gets the machine's own options, and the kernel its command line."""
        for item, job, (deploy, _, _) in self.emulated():
            with self.subTest(item.name):
                context = job["context"]
                self.assertEqual(context["arch"], item.arch)
                words = shlex.split(item.command.format(cpu=item.cpu))
                said = [word for option in context["extra_options"] for word in option.split()]
                self.assertEqual(said, shlex.split(" ".join(words[1:]).replace("-net none", "")))
                image_arg = shlex.split(deploy["images"]["kernel"]["image_arg"])
                self.assertEqual(image_arg[:3], ["-kernel", "{kernel}", "-append"])
                self.assertIn(f"{item.cmdline} {machine.CMDLINE} ", f" {image_arg[3]}")
                self.assertTrue(image_arg[3].startswith(ARCHES[item.arch].console))

    def test_suites(self) -> None:
        """Each suite of the machine has a monitor, in the order in which they run."""
        for item, _, (_, _, test) in self.emulated():
            wanted = [one.suite for one in self.tests if item.name in one.machines]
            wanted.sort(key=lambda suite: suite != "kunit")
            self.assertEqual([one["name"] for one in test["monitors"]],
                             [suite.replace("/", ".") for suite in wanted], item.name)

    def test_limits(self) -> None:
        for item, job, (_, _, test) in self.emulated():
            seconds = sum(one.timeout for one in self.tests if item.name in one.machines)
            # QEMU runs at once, and the kernel boots while LAVA waits for the first result.
            self.assertGreaterEqual(test["timeout"]["minutes"] * 60, ci.BOOT * 60 + seconds,
                                    item.name)
            self.assertGreater(job["timeouts"]["job"]["minutes"], test["timeout"]["minutes"])
            # However long nothing comes.
            self.assertEqual(job["timeouts"]["connections"],
                             {"lava-test-monitor": test["timeout"]})

    def test_kernelci(self) -> None:
        """What is named is there; jobs come last, as the pipeline's own check needs it."""
        found = load(self.filled["kernelci.yaml"])
        self.assertEqual(list(found)[-1], "jobs")
        for entry in found["scheduler"]:
            self.assertIn(entry["job"], found["jobs"])
            self.assertTrue(entry["platforms"])
            for name in entry["platforms"]:
                self.assertEqual(found["platforms"][name]["context"],
                                 ci.context(self.machines[name.removeprefix("memtype-")]))
        self.assertEqual({entry["job"] for entry in found["scheduler"]}, set(found["jobs"]))
        self.assertIn("CONFIG_KVM_MEMTYPE=y", found["fragments"]["memtype"]["configs"])
        for name in ("kvm", "iommu"):
            job = found["jobs"][f"kselftest-{name}-memtype"]
            self.assertEqual((job["kind"], job["params"]["collections"], job["kcidb_test_suite"]),
                             ("job", name, f"kselftest.{name}"))


class Monitors(unittest.TestCase):
    def follow(self, log: str, *tests: Test) -> tuple[dict[str, dict[str, str]], bool]:
        """What LAVA finds with the monitors of these suites, and whether it came to the end.

        As LAVA: of the patterns, the one that matches first counts, and the end before a result.
        """
        found: dict[str, dict[str, str]] = {}
        for monitor in map(ci.monitor, tests):
            start = re.search(monitor["start"], log)
            if not start:
                return found, False
            log, cases = log[start.end():], found.setdefault(monitor["name"], {})
            while True:
                matches = [match for pattern in (monitor["end"], monitor["pattern"])
                           if (match := re.search(pattern, log))]
                if not matches:
                    return found, False
                match = min(matches, key=re.Match.start)
                log = log[match.end():]
                if match.re.pattern == monitor["end"]:
                    break
                cases[match["test_case_id"]] = monitor["fixupdict"][match["result"]]
        return found, True

    def test_real_boot(self) -> None:
        """Each test, and how the program ended, be it by a signal."""
        log = (HERE / "tests/logs/ways.log").read_text()
        names = ("fail", "skip", "skip-all", "zero", "truncated", "exit-code", "killed", "warn")
        found, ended = self.follow(log, *(Test(f"memtype/{name}", []) for name in names))
        self.assertTrue(ended)
        self.assertEqual(found, {
            "memtype.fail": {"good": "pass", "broken": "fail", "memtype/fail": "fail"},
            "memtype.skip": {"good": "pass", "# SKIP needs another machine": "skip",
                             "memtype/skip": "pass"},
            "memtype.skip-all": {"memtype/skip-all": "skip"},
            "memtype.zero": {"memtype/zero": "pass"},
            "memtype.truncated": {"good": "pass", "memtype/truncated": "pass"},
            "memtype.exit-code": {"good": "pass", "memtype/exit-code": "fail"},
            "memtype.killed": {"good": "pass", "memtype/killed": "fail"},
            "memtype.warn": {"good": "pass", "memtype/warn": "pass"}})

    def test_no_ktap(self) -> None:
        """Of a program that speaks no KTAP, only its end counts."""
        log = (HERE / "tests/logs/ways.log").read_text()
        for name, result in (("zero", "pass"), ("skip-all", "skip"), ("fail", "fail"),
                             ("exit-code", "fail"), ("killed", "fail")):
            found, _ = self.follow(log, Test(f"memtype/{name}", [], ktap=False))
            self.assertEqual(found, {f"memtype.{name}": {f"memtype/{name}": result}})

    def test_no_end(self) -> None:
        """A machine that stops leaves the job incomplete."""
        log = (HERE / "tests/logs/panic.log").read_text()
        self.assertEqual(self.follow(log, Test("memtype/panic", [])),
                         ({"memtype.panic": {"good": "pass"}}, False))

    def test_kunit(self) -> None:
        log = ("[ 1.1] KTAP version 1\r\n[ 1.2]     KTAP version 1\r\n"
               "[ 1.2]     ok 1 first\r\n[ 1.3]     not ok 2 second\r\n"
               "[ 1.3]     ok 3 third # SKIP only arm64 has it\r\n[ 1.4] not ok 1 all\r\n"
               "[ 1.5] memtype> boot\r\n")
        self.assertEqual(self.follow(log, Test("kunit", [])), ({"kunit": {
            "first": "pass", "second": "fail", "third": "skip", "all": "fail"}}, True))

    def test_streamed(self) -> None:
        """A line is no result before all of it is there: what is left may say that it is a skip."""
        line = "memtype| ok 1 good # SKIP why\r\n"
        pattern = ci.monitor(Test("memtype/skip", []))["pattern"]
        for length in range(line.index("\r")):
            self.assertIsNone(re.search(pattern, line[:length]))
        self.assertRegex(line, pattern)


class Scripts(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)

    def script(self, name: str, text: str) -> None:
        (self.top / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.top / name).chmod(0o755)

    def run_shell(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", "-c", script], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, env={
                                  **variables, "PATH": f"{self.top}:{os.environ['PATH']}"})

    def test_board(self) -> None:
        """LAVA's shell hears of each program of the tarball, and how run.sh ended."""
        self.script("lava-test-case", 'echo "$@"')
        steps = ci.lava_board("arm64")["actions"][2]["test"]["definitions"][0]["repository"]["run"][
            "steps"]
        for code, result in ((0, "pass"), (1, "fail"), (2, "fail"), (4, "skip")):
            self.script("run.sh", r"printf '%s\n' 'KTAP version 1' '1..3' '# ok 7 no' "
                                  "'  ok 1 program' 'ok 1 a b' '  not ok 1 slot.end' "
                                  "'not ok 2 kvm/slot' "
                                  f"'ok 3 c # SKIP no device'; exit {code}")
            done = self.run_shell("\n".join(steps).replace("/tmp/", f"{self.top}/").replace(
                ci.RUN.format(arch="arm64"), f"{self.top}/run.sh"))
            self.assertEqual(done.stdout.splitlines()[-4:], [
                f"run.sh --result {result}", "a_b --result pass", "kvm_slot --result fail",
                "c --result skip"])

    def test_tuxrun(self) -> None:
        self.script("tuxrun", 'echo "$@"')
        for arch in ARCHES:
            subprocess.run(["shellcheck", "-"], input=ci.tuxrun(arch), text=True, check=True)
            lab = {name: LAB[name] for name in ("KERNEL_URL", "IMAGE_URL", "TESTS_URL")}
            done = self.run_shell(ci.tuxrun(arch), **lab)
            words = done.stdout.split()
            self.assertEqual(words[:6], ["--device", f"qemu-{arch}", "--kernel", lab["KERNEL_URL"],
                                         "--rootfs", lab["IMAGE_URL"]])
            self.assertEqual(words[-2:], ["--", f"/memtype-selftests-{arch}/run.sh"])
            done = self.run_shell(ci.tuxrun(arch), **{**lab, "TESTS_URL": ""})
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("make selftests-tar", done.stdout)


class Hosted(unittest.TestCase):
    """The files for GitLab and GitHub: both run what CI runs, and keep what came of it."""

    KEPT = ["out/report.html", "out/junit.xml", "out/matrix.json", "out/*/console*.log"]

    def test_gitlab(self) -> None:
        (job,) = load((REPO / ".ci/gitlab.yml").read_text()).values()
        self.assertEqual(job["script"], ".ci/run")
        self.assertEqual(job["artifacts"]["when"], "always")
        self.assertEqual(job["artifacts"]["reports"], {"junit": "out/junit.xml"})
        self.assertEqual(job["artifacts"]["paths"], self.KEPT)

    def test_github(self) -> None:
        workflow = load((REPO / ".ci/github.yml").read_text())
        # Once for a branch with a pull request.
        self.assertEqual(workflow["on"], {"push": {"branches": ["main"]}, "pull_request": None})
        steps = workflow["jobs"]["test"]["steps"]
        self.assertIn({"run": ".ci/run"}, steps)
        report, upload = steps[-2:]
        self.assertEqual((report["if"], upload["if"]), ("always()", "always()"))
        self.assertIn("make -s report", report["run"])
        self.assertEqual(upload["with"]["path"].split(), self.KEPT)


if __name__ == "__main__":
    unittest.main()
