# SPDX-License-Identifier: GPL-2.0-only
"""run.sh in a tarball of `make selftests-tar`: runs our selftests on this machine itself.

The tarball has this file and what it imports at their places in the tree, the programs, and the
tables as tests.json. The first program says what the machine is. If the tables know a machine of
that kind, its expectations hold here; else types are only reported.

Standard output is one KTAP stream, with a test for each program, whose subtests are the program's
own and the types that it saw. Files in --out have the same as the matrix does.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import fnmatch
import json
import os
import platform
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import judge
import page
import report
import summary
from console import Line, Log, Segment
from results import FAIL, GOOD, HANG, NOT_RUN, PASS, PROGRAM, SKIP, End, Result
from settings import OUT, REPO, Error
from tables import SELFTESTS, Test

LIST = REPO / "tests.json"
# How matrix.json calls this machine; its name is nobody's business.
NAME = "hardware"
# The program that says what a machine is, and the rows of it that decide about memory types.
IDENTITY = "kvm/memtype_host_test"
DECISIVE = ("kernel: pages", "CPU: VMX", "CPU: SVM", "CPU: self-snoop", "KVM: EPT", "KVM: NPT",
            "KVM: host type of PWT", "CPU: FWB", "CPU: DIC", "KVM: MTE", "KVM: VHE",
            "KVM: stage 2 by pKVM")
# What --bar is for.
SPEED = "kvm/memtype_speed"
# Exit status where nothing could run, as of kselftest.
NOTHING = judge.KSFT_SKIP
# So many lines of a failure's log are in KTAP; all are in the report.
LOG_LINES = 12
# Priority and text of a record in /dev/kmsg.
KERNEL_LINE = re.compile(r"^(\d+),[^;]*;(.*)$")


@dataclass
class Kit:
    """tests.json: what the tables say, for one architecture."""
    arch: str
    commit: str
    base: str                   # the kernel whose tables these are
    machines: dict[str, str]    # what a pass proves on each
    tests: list[Test]


def load() -> Kit:
    values: dict[str, Any] = json.loads(LIST.read_text())
    values["tests"] = [Test(**test) for test in values["tests"]]
    return Kit(**values)


def identify(kit: Kit, cells: dict[str, str]) -> str:
    """The first machine of the tables that is of this one's kind by all decisive rows that this one
    has; empty if there is none. A kernel without test instruments has fewer rows."""
    rows: dict[str, dict[str, str]] = next(
        (test.rows for test in kit.tests if test.suite == IDENTITY), {})
    known = {row: value for row, value in cells.items() if row in DECISIVE}
    return next((name for name in kit.machines if known and all(
        rows.get(row, {}).get(name) == value for row, value in known.items())), "")


def choose(kit: Kit, like: str) -> list[Test]:
    """One test of each suite: as the machine runs it that this one is like, or else any other."""
    chosen: dict[str, Test] = {}
    for test in kit.tests:
        if test.suite not in chosen or (
                like in test.machines and like not in chosen[test.suite].machines):
            chosen[test.suite] = test
    return list(chosen.values())


class Judge(judge.Judge):
    """Judges by what the tables say of the machine that this one is like.

    It is no machine of the tables itself: its kernel may lack test instruments, and it has other
    devices. So a test may be skipped that is not skipped there, and rows of that program may be
    missing.
    """

    def __init__(self, log: Log, end: End | None, seconds: dict[str, float]) -> None:
        super().__init__(NAME, judge.kunit_parser(REPO), log, end, seconds)
        self.like = ""
        self.new_skips: list[str] = []

    def judge_as(self, test: Test, like: str) -> list[Result]:
        """The results of a program that ran here."""
        self.like = like if like in test.machines and test.suite != IDENTITY else ""
        rows = {row: {NAME: values[self.like]} for row, values in test.rows.items()
                if self.like in values}
        return self.suite(dataclasses.replace(test, rows=rows,
                                              skips={NAME: test.skips.get(self.like, {})}))

    def cells(self, test: Test, segment: Segment,
              lines: list[str]) -> tuple[list[Result], dict[str, str]]:
        results, missing = super().cells(test, segment, lines)
        for cell in results:
            if cell.value and not self.like:
                cell.status, cell.log = SKIP, []
                cell.reason = "this is what the machine is" if test.suite == IDENTITY else (
                    "reported, not compared: the tables have nothing of this row on such a machine")
        return results, missing

    def expect_skips(self, test: Test, results: list[Result], segment: Segment) -> list[Result]:
        listed = test.skips[NAME]
        self.new_skips = [result.reason for result in results
                          if result.status == SKIP and not result.value and not any(
                              fnmatch.fnmatchcase(result.test, name) for name in listed)]
        return []

    def absent(self, test: Test, missing: dict[str, str], results: list[Result],
               segment: Segment) -> list[Result]:
        found = super().absent(test, missing, results, segment)
        for cell in found:
            if cell.status == FAIL and self.new_skips:
                cell.status, cell.log = SKIP, []
                cell.reason = f"the program skipped tests here: {self.new_skips[0]}"
        return found


def kernel_line(record: str) -> Line | None:
    """A record of /dev/kmsg, if the kernel itself wrote it: the priority's upper bits say who."""
    match = KERNEL_LINE.match(record.partition("\n")[0])
    return Line(match[2], True, match[2]) if match and not int(match[1]) >> 3 else None


class KernelLog:
    """What the kernel says from now on; nothing if this user may not read it."""

    def __init__(self) -> None:
        self.files: list[int] = []
        with contextlib.suppress(OSError):
            self.files.append(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
            os.lseek(self.files[0], 0, os.SEEK_END)

    def lines(self) -> list[Line]:
        """All that it has said since the last time."""
        found: list[Line] = []
        while self.files:
            try:
                record = os.read(self.files[0], 1 << 14).decode(errors="replace")
            except BrokenPipeError:
                found.append(Line("printk messages dropped", True, "printk messages dropped"))
                continue
            except OSError:
                break
            found += filter(None, [kernel_line(record)])
        return found


def lines_of(process: subprocess.Popen[bytes], kernel: KernelLog) -> Iterator[Line]:
    """What a program and the kernel say, as it comes: the kernel keeps little of it."""
    assert process.stdout
    output, text, chunk = process.stdout.fileno(), b"", b"\n"
    while chunk:
        ready = select.select([output, *kernel.files], [], [])[0]
        yield from kernel.lines()
        if output in ready:
            chunk = os.read(output, 1 << 16)
            *whole, text = (text + chunk).split(b"\n")
            for line in whole if chunk or not text else [text]:
                said = line.decode(errors="replace").rstrip("\r")
                yield Line(said, False, said)


def started(test: Test) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen([REPO / test.program, *test.args], stdin=subprocess.DEVNULL,
                                cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise Error(f"the program does not start: {error.strerror}") from error


def run(test: Test, kernel: KernelLog) -> tuple[Log, End | None, float]:
    """Runs a program to its end; what it prints goes to a file, too, as it comes."""
    log, end = Log(), None
    segment = log.programs[test.suite] = Segment(test.suite)
    start = time.monotonic()
    path = OUT / f"{test.suite.replace('/', '.')}.ktap"
    kernel.lines()
    try:
        with path.open("w") as sink, started(test) as process:
            try:
                for line in lines_of(process, kernel):
                    segment.lines.append(line)
                    if not line.kernel:
                        print(line.text, file=sink, flush=True)
            except (KeyboardInterrupt, OSError):
                process.kill()
                raise
        segment.how, segment.code = ("signal", -process.returncode) if process.returncode < 0 else (
            "exit", process.returncode)
    except Error as error:
        end = End(test.suite, FAIL, str(error))
    except OSError as error:
        end = End(test.suite, FAIL, f"cannot write the program's output to {path}: "
                  f"{error.strerror}")
    except KeyboardInterrupt:
        end = End(test.suite, HANG, "interrupted by the user")
    segment.lines += kernel.lines()
    return log, end, time.monotonic() - start


def ktap_name(text: str) -> str:
    """What may stand in a result line before its directive."""
    return text.replace("#", "_")


def ktap_result(number: int, status: str, name: str, reason: str) -> str:
    """A result line; a status of ours that KTAP lacks is a failure."""
    directive = f" # SKIP {reason}" if status in (SKIP, NOT_RUN) and reason else ""
    good = status in GOOD or status == NOT_RUN
    return f"{'ok' if good else 'not ok'} {number} {ktap_name(name)}{directive}"


def ktap(number: int, suite: str, results: list[Result]) -> list[str]:
    """A program with its results as one test with subtests."""
    lines = ["  KTAP version 1", f"  1..{len(results)}"]
    for count, result in enumerate(results, 1):
        status = result.status
        reason = f"because of {result.cause}" if status == NOT_RUN else (
            " ".join(result.reason.split()))
        if status not in GOOD and status != NOT_RUN:
            lines.append(f"  # {result.test}: {status}: {reason}")
            log = result.log[-LOG_LINES:] if result.test == PROGRAM else result.log[:LOG_LINES]
            lines += [f"  #   {line}" for line in log]
        elif result.value:
            lines.append(f"  # {result.test}: {result.value}")
        lines.append("  " + ktap_result(count, status, result.test, reason))
    bad = [result for result in results if result.status not in (*GOOD, NOT_RUN)]
    skipped = not bad and not any(result.status == PASS for result in results)
    return [*lines, ktap_result(number, FAIL if bad else SKIP if skipped else PASS, suite,
                                results[-1].reason if skipped else "")]


def first_line(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n").split("\n")[0]
    except OSError:
        return ""


def cpu() -> str:
    """The model, as the kernel has it, and how many there are."""
    info = dict(re.findall(r"^(\S[^\t:]*\S)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M))
    model = info.get("model name") or "implementer {}, part {}, variant {}, revision {}".format(
        *(info.get(f"CPU {key}", "?") for key in ("implementer", "part", "variant", "revision")))
    stepping = ", ".join(f"{key} {info[key]}" for key in ("cpu family", "model", "stepping",
                                                          "microcode") if key in info)
    return f"{os.cpu_count()} × {model}" + (f" ({stepping})" if stepping else "")


def firmware() -> str:
    """By DMI, or else by the device tree; neither serial numbers nor names that were given."""
    dmi = [first_line(f"/sys/class/dmi/id/{name}") for name in (
        "sys_vendor", "product_name", "bios_vendor", "bios_version", "bios_date")]
    tree = [first_line(f"/proc/device-tree/{name}").replace("\0", " ")
            for name in ("model", "compatible")]
    return ", ".join(filter(None, dmi if any(dmi) else summary.distinct(tree))) or "says nothing"


def iommu() -> str:
    """The drivers' instances, and how many groups there are."""
    names = sorted(path.name for path in Path("/sys/class/iommu").glob("*"))
    groups = len(list(Path("/sys/kernel/iommu_groups").glob("*")))
    return f"{', '.join(names)}; {summary.number(groups, 'group')}" if names else "none"


def answers() -> str:
    """What kvm-memtype says of a VM with RAM, a framebuffer and a blob (memtype-example)."""
    try:
        example = subprocess.run([REPO / "memtype-example"], text=True, capture_output=True,
                                 check=False)
        said, mark, table = example.stdout.partition("/sys/kernel/debug/kvm/")
        if not mark:
            return (said + example.stderr).strip() or f"exit status {example.returncode}"
        (OUT / "memtype").write_text(table.partition("\n")[2])
        tool = subprocess.run([REPO / "kvm-memtype", OUT / "memtype"], text=True,
                              capture_output=True, check=False)
        return (said + tool.stdout + tool.stderr).strip()
    except OSError as error:
        return str(error)


def environment(kit: Kit, like: str, words: list[str]) -> dict[str, Any]:
    """What one must know of the machine, for the report."""
    known = (f"Types are compared with those of {like}." if like else
             "The tables know no machine of this kind: types are only reported.")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": kit.commit,
        "kernel": f"{platform.release()} {platform.version()}",
        "base": f"the tests and their tables are for {kit.base}",
        "note": known,
        "command": " ".join(["./run.sh", *words]),
        "CPU": cpu(), "firmware": firmware(), "IOMMU": iommu(),
        "kernel command line": first_line("/proc/cmdline"),
        "kvm.guest_memtype": first_line("/sys/module/kvm/parameters/guest_memtype") or "not there",
        "kvm-memtype": answers(),
        "speed": "\n".join(line.partition("memtype-speed: ")[2]
                           for path in OUT.glob("kvm.memtype_speed.ktap")
                           for line in path.read_text().splitlines()
                           if "memtype-speed: " in line),
    }


def emit(lines: list[str]) -> None:
    print("\n".join(lines), flush=True)


def run_all(kit: Kit, patterns: list[str]) -> tuple[str, list[Result], float]:
    """Runs all programs whose names match, and what says what the machine is, which goes first."""
    kernel, like, results = KernelLog(), "", []
    suites = [test.suite for test in choose(kit, "") if test.suite == IDENTITY or not patterns
              or any(fnmatch.fnmatchcase(test.suite, pattern) for pattern in patterns)]
    start = time.monotonic()
    emit(["KTAP version 1", f"1..{len(suites)}"])
    interrupted = ""
    for number, suite in enumerate(suites, 1):
        if interrupted:
            found = [Result(NAME, suite, PROGRAM, suite, NOT_RUN, cause=interrupted)]
            emit(ktap(number, suite, found))
            results += found
            continue
        test = next(one for one in choose(kit, like) if one.suite == suite)
        emit([f"# {suite}: runs"])
        log, end, seconds = run(test, kernel)
        found = Judge(log, end, {suite: seconds}).judge_as(test, like)
        if suite == IDENTITY:
            # What it says is not all if it did not come to its end.
            if all(one.status in GOOD for one in found if one.test == PROGRAM):
                like = identify(kit, {one.row: one.value for one in found if one.value})
            for one in found:
                if like and one.row in DECISIVE:
                    one.status, one.expected, one.reason = PASS, one.value, ""
            emit([f"# this machine is like {like}: its types must be the same" if like else
                  "# the tables know no machine of this kind: types are only reported"])
        emit(ktap(number, suite, found))
        results += found
        if end and end.status == HANG:
            interrupted = f"{NAME} {suite} {PROGRAM}"
    return like, results, time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.sh", description="Runs the memtype selftests on "
                                     "this machine. Exit status: 0 nothing failed, 1 something "
                                     "did, 2 it cannot run at all, 4 all tests were skipped.")
    parser.add_argument("--bar", metavar="FILE", help="a PCI resource file of sysfs, whose first "
                        "32 KiB kvm/memtype_speed overwrites: /sys/bus/pci/devices/.../resource0")
    parser.add_argument("test", nargs="*", help="only these, by shell patterns: kvm/memtype_speed")
    options = parser.parse_args()
    if not LIST.exists():
        parser.error(f"there is no {LIST.name}: use a tarball of make selftests-tar")
    kit = load()
    for pattern in options.test:
        if not any(fnmatch.fnmatchcase(test.suite, pattern) for test in kit.tests):
            parser.error(f"no test matches {pattern}")
    if os.geteuid():
        parser.error("run it as root")
    if platform.machine() not in (kit.arch, {"arm64": "aarch64"}.get(kit.arch)):
        parser.error(f"these programs are for {kit.arch}, and this is {platform.machine()}")
    if options.bar:
        if not os.access(options.bar, os.R_OK | os.W_OK):
            parser.error(f"--bar {options.bar}: no such file, or it cannot be written")
        if options.test and not any(fnmatch.fnmatchcase(SPEED, name) for name in options.test):
            parser.error(f"--bar is for {SPEED}, which is not among the tests")
        os.environ["MEMTYPE_BAR"] = os.path.abspath(options.bar)
    OUT.mkdir(parents=True, exist_ok=True)
    for path in OUT.glob("*.ktap"):
        path.unlink()
    like, results, seconds = run_all(kit, options.test)
    bar = f" --bar {options.bar}" if options.bar else ""
    matrix: dict[str, Any] = {
        "environment": environment(kit, like, sys.argv[1:]),
        "machines": {NAME: {
            "arch": kit.arch, "emulator": "", "seconds": round(seconds, 1), "boots": 1,
            "proves": f"As {like}, on hardware: {kit.machines[like]}" if like else
            "What this machine does; nothing is known of its kind.",
            "proves_not": "What was skipped."}},
        "proofs": {test.suite: {"proves": test.proves, "proves_not": test.proves_not}
                   for test in choose(kit, like) if test.proves},
        "sources": {test.suite: f"{SELFTESTS}/{test.program}.c" for test in choose(kit, like)},
        "suites": summary.distinct(result.suite for result in results),
        "results": [{**dataclasses.asdict(result), "repeat": f"./run.sh{bar} {result.suite}"}
                    for result in results],
    }
    (OUT / "matrix.json").write_text(json.dumps(matrix, indent=1) + "\n")
    (OUT / "junit.xml").write_bytes(report.junit(matrix))
    (OUT / "report.html").write_text(page.page(matrix))
    total = summary.counts(matrix["results"])
    emit([f"# {matrix['environment']['note']}", f"# {total}", f"# report: {OUT / 'report.html'}"])
    return 1 if total.failed else 0 if total.passed else NOTHING


if __name__ == "__main__":
    sys.exit(main())
