# SPDX-License-Identifier: GPL-2.0-only
"""tools/kvm/memtype/kvm-memtype on tables as the kernel prints them, and on broken ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from build import PROGRAMS
from check import W1
from settings import REPO

SCHEMA = REPO / "tools/kvm/memtype/kvm-memtype.schema.json"
SOURCE = REPO / "tools/kvm/memtype/kvm-memtype.c"
MANUAL = REPO / "Documentation/virt/kvm/kvm-memtype.rst"
SVG = "{http://www.w3.org/2000/svg}"
HEAD = "policy {}\nnoncoherent-dma {}\n"
# As kvm_memtype_show() and kvm_memtype_show_range() print title and rows.
COLUMNS = "{:2} {:18} {:18} {:4} {:4} {:6} {:16} {:6} {:24} {:9} {}"
TITLES = COLUMNS.format("as", "start", "end", "slot", "host", "intent", "effective", "source",
                        "attributes", "refusal", "mapped")

# Of a row: slot, host, intent, effective, source, attributes, refusal and mapped; then what the
# tool makes of it, GUEST MAY and WHY.
RAM = "memory: the guest's own page tables decide, and UC there is slow"
CPU = "forced: this CPU lets no guest choose (shadow paging, no self-snoop, or arm64 FWB)"
SHADOW = "; the guest's choice does not count (shadow paging)"
NPT = "; this CPU leaves the choice to the guest"
ANY = "WB,WT,WP,WC,UC"
NO_TYPE = " ".join(["none"] * 4)
ROWS = {
    f"0 WB WB {ANY} RAM - none 2048": ("WB, WT, WP, WC or UC", RAM),
    "0 WB WB WB,WT,WC,UC,GRE,nGRE,nGnRnE RAM predicted none 0": (
        "WB, WT, WC, UC, GRE, nGRE or nGnRnE", f"{RAM}; predicted, nothing is mapped yet"),
    f"0 WB WB {ANY} RAM - none -": ("WB, WT, WP, WC or UC", RAM),
    "1 WB WB WB policy forced none 4": ("WB only", "forced: the VM's policy is legacy"),
    "2 WB WB WB CPU forced none 4": ("WB only", CPU),
    "3 WB WB WB slot forced none 4": (
        "WB only", "forced: the VMM gave this slot KVM_MEM_FORCE_WB"),
    "4 WB WB WB CPU forced,predicted none -": (
        "WB only", f"{CPU}; predicted, nothing is mapped yet"),
    "5 UC- UC UC MMIO any-uncached none -": (
        "UC only", f"device memory, which the host maps UC- and whose driver allows WC{SHADOW}"),
    "5 WC WC WB PTE - none -": ("WB only", f"memory, but the host itself maps it WC{SHADOW}"),
    "6 UC- UC WC,UC MMIO any-uncached,predicted none 0": (
        "WC or UC", "device memory, which the host maps UC- and whose driver allows WC; "
                    "predicted, nothing is mapped yet"),
    "7 UC UC WC,UC,GRE,nGRE,nGnRnE MMIO any-uncached,noexec none 4": (
        "WC, UC, GRE, nGRE or nGnRnE", "device memory, which the host maps UC and whose driver "
                                       "allows WC; no instruction fetch"),
    "8 WC UC WC,UC MMIO any-uncached none 4": (
        "WC or UC", "device memory, which the host maps WC and whose driver allows WC"),
    "9 UC- UC WC,UC MMIO - none 4": ("WC or UC", "device memory, which the host maps UC-"),
    "10 UC UC UC,nGnRnE MMIO noexec none 4": (
        "UC or nGnRnE", "device memory, which the host maps UC; no instruction fetch"),
    "11 WC WC WC,UC PTE - none 4": ("WC or UC", "memory, but the host itself maps it WC"),
    f"11 WC WC {ANY} PTE - none 4": (
        "WB, WT, WP, WC or UC", f"memory, but the host itself maps it WC{NPT}"),
    "12 WT WT WT,WP,WC,UC PTE - none 4": (
        "WT, WP, WC or UC", "memory, but the host itself maps it WT"),
    "12 WP WP WT,WP,WC,UC MMIO - none 4": (
        "WT, WP, WC or UC", "device memory, which the host maps WP"),
    f"13 UC- UC {ANY} PTE - none 4": (
        "WB, WT, WP, WC or UC", f"memory, but the host itself maps it UC-{NPT}"),
    f"15 {NO_TYPE} - unmapped 0": (
        "no access", "refused: the host gives KVM no page here (nothing mapped, no permission, "
                     "or no reference allowed)"),
    f"16 {NO_TYPE} - cacheable 0": (
        "no access", "refused: the host maps it cacheable, but it is not memory "
                     "(arm64: without FWB and DIC, or policy stage1)"),
    f"17 {NO_TYPE} - MTE 0": (
        "no access",
        "refused: the VM has MTE, but this mapping cannot hold tags (it lacks VM_MTE_ALLOWED)"),
    f"18 {NO_TYPE} - hypervisor 0": (
        "no access", "refused: pKVM's hypervisor maps only memory that the host caches (arm64)"),
}


def table(*rows: str, policy: str = "honor", dma: str = "no") -> str:
    return HEAD.format(policy, dma) + "".join(f"{row}\n" for row in (TITLES, *rows))


def line(number: int, row: str, address_space: int = 0) -> str:
    """A line of the table, 2 MiB for each row."""
    return COLUMNS.format(str(address_space), f"0x{number << 21:016x}",
                          f"0x{(number + 1) << 21:016x}", *row.split())


ALL = table(*(line(number, row) for number, row in enumerate(ROWS)))


class Tool(unittest.TestCase):
    """The tool as the Makefile builds it, but with a directory of the test's for debugfs."""
    top: Path
    debugfs: Path

    @classmethod
    def setUpClass(cls) -> None:
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.top = Path(scratch.name)
        cls.debugfs = cls.top / "debug"
        subprocess.run(["make", "-s", "-C", REPO / "tools/kvm/memtype", f"OUTPUT={cls.top}/",
                        f"CFLAGS=-O2 -Werror {' '.join(W1)} -DDEBUGFS='\"{cls.debugfs}\"'"],
                       check=True)

    def run_tool(self, *words: str | Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        kwargs.setdefault("stdout", subprocess.PIPE)
        return subprocess.run([str(word) for word in (self.top / "kvm-memtype", *words)],
                              check=False, text=True, stderr=subprocess.PIPE, **kwargs)

    def of_text(self, text: str, *words: str) -> subprocess.CompletedProcess[str]:
        path = self.top / "memtype"
        path.write_text(text)
        return self.run_tool(*words, path)

    def printed(self, text: str) -> list[str]:
        """The lines of the table that the tool prints for one that is good."""
        done = self.of_text(text)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.splitlines()

    def vms(self, *words: str | Path) -> list[dict[str, Any]]:
        done = self.run_tool("--json", *words)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        printed = json.loads(done.stdout)
        path = self.top / "printed.json"
        path.write_text(done.stdout)
        # Of Debian's Python, whatever Python this is
        subprocess.run(["jsonschema", "-i", path, SCHEMA], check=True, stderr=subprocess.DEVNULL)
        vms = printed["vms"]
        assert isinstance(vms, list)
        return vms

    def refused(self, done: subprocess.CompletedProcess[str], *reasons: str,
                status: int = 1) -> None:
        self.assertEqual((done.returncode, done.stdout), (status, ""))
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for reason in ("kvm-memtype: ", *reasons):
            self.assertIn(reason, done.stderr)


class Table(Tool):
    def test_every_row(self) -> None:
        heading, titles, *lines = self.printed(ALL)
        self.assertEqual(heading, f"VM {self.top}/memtype: policy honor, no non-coherent DMA")
        self.assertEqual(" ".join(titles.split()),
                         "ADDRESS SIZE SLOT HOST INTENT GUEST MAY MAPPED WHY")
        self.assertEqual(len(lines), len(ROWS))
        for number, (row, (may, why)) in enumerate(ROWS.items()):
            slot, host, intent, *_, mapped = row.split()
            size = {"2048": "2M", "4": "4K"}.get(mapped, mapped)
            with self.subTest(row):
                self.assertEqual(
                    lines[number].split(),
                    [f"0x{number << 21:09x}-0x{(number + 1) << 21:09x}", "2M", slot, host, intent,
                     *may.split(), size, *why.split()])

    def test_alignment(self) -> None:
        """Each column begins, or ends if it holds numbers, where its title does."""
        _, titles, *lines = self.printed(ALL)
        for title in ("ADDRESS", "HOST", "INTENT", "GUEST MAY", "WHY"):
            column = titles.index(title)
            for printed in [titles, *lines]:
                self.assertRegex(printed[column - 2:column] if column else "  ", "^ +$", printed)
                self.assertNotEqual(printed[column], " ", printed)
        for title in ("SIZE", "SLOT", "MAPPED"):
            column = titles.index(title) + len(title)
            for printed in [titles, *lines]:
                self.assertRegex(printed[column - 1:column + 2], r"^\S  $", printed)

    def test_sizes(self) -> None:
        """Exact sizes have no fraction; the largest number has no overflow."""
        ends = {0xa0000: "640K", 0x80000000: "2G", 0xffff_ffff_ffff_f000: "16.0E", 0x200: "512",
                0x3000_0000_0000: "48T", 0x180200: "1.5M"}
        row = f"0 WB WB {ANY} RAM - none 1536"
        lines = self.printed(table(*(f"0 0x0 {end:#x} {row}" for end in ends)))
        self.assertEqual([words.split()[1] for words in lines[2:]], list(ends.values()))
        self.assertEqual({words.split()[11] for words in lines[2:]}, {"1.5M"})

    def test_address_space(self) -> None:
        row = "0 WB WB WB CPU forced none 0"
        self.assertTrue(self.printed(table(line(0, row)))[1].startswith("ADDRESS"))
        _, titles, first, second = self.printed(table(line(0, row), line(0, row, 1)))
        self.assertTrue(titles.startswith("AS  ADDRESS"))
        self.assertEqual((first[:4], second[:4]), (" 0  ", " 1  "))

    def test_heading(self) -> None:
        for policy in ("honor", "legacy", "stage1"):
            heading, empty = self.printed(table(policy=policy, dma="yes"))
            self.assertTrue(heading.endswith(f": policy {policy}, with non-coherent DMA"))
            self.assertEqual(empty, "no memory slots")

    def test_full_disk(self) -> None:
        (self.top / "memtype").write_text(ALL)
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = self.run_tool(self.top / "memtype", stdout=full)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot write: No space left", done.stderr)


class Json(Tool):
    def test_equals_the_table(self) -> None:
        (self.top / "memtype").write_text(ALL)
        vm, = self.vms(self.top / "memtype")
        self.assertEqual((vm["name"], vm["policy"], vm["noncoherent_dma"]),
                         (f"{self.top}/memtype", "honor", False))
        wanted = []
        for number, (row, (_, why)) in enumerate(ROWS.items()):
            slot, host, intent, effective, source, attributes, refusal, mapped = row.split()
            wanted.append({
                "as": 0, "start": hex(number << 21), "end": hex((number + 1) << 21),
                "size": 1 << 21, "slot": int(slot), "host": host, "intent": intent,
                "effective": [] if effective == "none" else effective.split(","),
                "source": source, "refusal": refusal, "why": why,
                "attributes": [] if attributes == "-" else attributes.split(","),
                "mapped": None if mapped == "-" else int(mapped) * 1024})
        self.assertEqual(vm["ranges"], wanted)

    def test_no_slots(self) -> None:
        (self.top / "memtype").write_text(table(policy="legacy", dma="yes"))
        self.assertEqual(self.vms(self.top / "memtype"),
                         [{"name": f"{self.top}/memtype", "policy": "legacy",
                           "noncoherent_dma": True, "ranges": []}])

    def test_file_name(self) -> None:
        path = self.top / 'a "b\\c\té'
        path.write_text(table())
        vm, = self.vms(path)
        self.assertEqual(vm["name"], str(path))


class Malformed(Tool):
    """A table that is not understood is refused as a whole, with line and reason."""

    def test_settings_and_header(self) -> None:
        for number, old, new, reason in (
                (1, "policy honor", "policy vax", "unknown policy 'vax'"),
                (1, "policy honor", "honor policy", "'honor' instead of 'policy'"),
                (1, "policy honor", "policy honor now", "3 words instead of 2"),
                (2, "dma no", "dma maybe", "unknown noncoherent-dma 'maybe'"),
                (3, "refusal", "reason", "column 'reason' instead of 'refusal'"),
                (3, "effective ", "", "10 words instead of 11"),
                (3, "  mapped", "", "10 words instead of 11")):
            with self.subTest(new):
                self.assertIn(old, table())
                self.refused(self.of_text(table().replace(old, new)), f"line {number}: {reason}")

    def test_rows(self) -> None:
        good = "0 0x1000 0x2000 3 WB WB WB RAM - none 4"
        self.printed(table(good))
        for column, bad, reason in (
                (0, "x", "as 'x' is not a number"), (1, "-1", "start '-1' is not a number"),
                (1, "0x2000", "the range is empty"), (2, "0x1zz", "end '0x1zz' is not a number"),
                (2, "0x10000000000000000", "is not a number"), (3, "-", "slot '-' is not a number"),
                (4, "wb", "unknown host 'wb'"), (5, "WX", "unknown intent 'WX'"),
                (6, "WB,WX", "unknown effective 'WX'"), (6, "WB,", "unknown effective ''"),
                (6, "WB,UC,WB", "effective 'WB' twice"), (6, "-", "unknown effective '-'"),
                (7, "ROM", "unknown source 'ROM'"),
                (8, "forced,magic", "unknown attribute 'magic'"),
                (8, "forced,forced", "attribute 'forced' twice"),
                (8, "forced,,noexec", "unknown attribute ''"), (9, "no", "unknown refusal 'no'"),
                (10, "4K", "mapped '4K' is not a number"),
                (10, "0x4000000000000000", "is too large"), (10, "", "10 words instead of 11"),
                (10, "4 4", "12 words instead of 11")):
            self.bad_row(good, column, bad, reason)

    def test_type_or_refusal(self) -> None:
        """A row has all of a type, or a refusal and nothing of one."""
        types = "0 0x1000 0x2000 3 WB WB WB RAM - none 4"
        refusal = f"0 0x1000 0x2000 3 {NO_TYPE} - MTE 4"
        self.printed(table(types, refusal))
        for column in 4, 5, 6, 7, 9:
            self.bad_row(types, column, refusal.split()[column], "type and refusal do not agree")
            self.bad_row(refusal, column, types.split()[column], "type and refusal do not agree")
        for row in types, refusal:
            self.bad_row(row, 6, "none,WB", "type and refusal do not agree")

    def bad_row(self, good: str, column: int, bad: str, reason: str) -> None:
        words = good.split()
        words[column] = bad
        with self.subTest(good, column=column, bad=bad):
            done = self.of_text(table(good, " ".join(words)), "--json")
            self.refused(done, f"{self.top}/memtype: line 5: ", reason)

    def test_too_short(self) -> None:
        self.refused(self.of_text(""), "ends after line 0")
        self.refused(self.of_text("policy honor\nnoncoherent-dma no\n"), "ends after line 2")

    def test_unreadable(self) -> None:
        self.refused(self.run_tool(self.top / "nothing"), f"{self.top}/nothing: No such file")
        self.refused(self.run_tool(self.top), f"{self.top}: Is a directory")

    def test_usage(self) -> None:
        for words in ("", "1 2", "--xml 1", "--json"):
            done = self.run_tool(*words.split())
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("usage: kvm-memtype [--json | --svg]", done.stderr)

    def test_help_and_version(self) -> None:
        done = self.run_tool("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for option in re.findall(r"^\*\*(--\w+)", MANUAL.read_text(), re.M):
            self.assertIn(option, done.stdout)
        done = self.run_tool("--version")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        version = json.loads(SCHEMA.read_text())["properties"]["version"]["const"]
        self.assertRegex(done.stdout, rf"^kvm-memtype \S+, version {version} of --json\n$")

    def test_schema_has_all_words(self) -> None:
        """A word that the tool learns must get into the schema."""
        words = set(re.findall(r"\"([\w-]+)\"", "".join(re.findall(
            r"^static const char \* const (?:policies|types|sources|refusals|attributes)"
            r".*?};", SOURCE.read_text(), re.M | re.S))))
        self.assertGreater(len(words), 20)
        self.assertLessEqual(words, set(re.findall(r"\"([\w-]+)\"", SCHEMA.read_text())))


class Picture(Tool):
    def picture(self, text: str) -> tuple[list[ElementTree.Element], list[str]]:
        """The boxes of the ranges, and all text."""
        done = self.of_text(text, "--svg")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        root = ElementTree.fromstring(done.stdout)
        boxes = [box for box in root.iter(f"{SVG}rect") if box.get("width") == "220"]
        for box in boxes:
            self.assertLess(int(box.attrib["y"]) + int(box.attrib["height"]),
                            int(root.attrib["height"]))
        return boxes, [str(item.text) for item in root.iter(f"{SVG}text")]

    def test_every_row(self) -> None:
        boxes, texts = self.picture(ALL)
        self.assertEqual(len(boxes), len(ROWS))
        for row, (may, why) in ROWS.items():
            with self.subTest(row):
                self.assertIn(why, texts)
                if may != "no access":
                    self.assertIn(f"host {row.split()[1]}, guest may {may}", texts)
        # WB, forced, WC, uncached and refused differ.
        self.assertEqual(len({box.attrib["fill"] for box in boxes}), 5)

    def test_size_and_gaps(self) -> None:
        row = COLUMNS.format("{}", "{:#018x}", "{:#018x}", *f"0 WB WB {ANY} RAM - none -".split())
        boxes, texts = self.picture(table(row.format(0, 0, 4096), row.format(0, 4096, 1 << 31),
                                          row.format(0, 1 << 32, 1 << 40),
                                          row.format(1, 1 << 40, 1 << 41)))
        heights = [int(box.attrib["height"]) for box in boxes]
        self.assertEqual(heights, sorted(heights))
        self.assertEqual([texts.count(gap) for gap in ("no slot", "address space 1")], [1, 1])

    def test_escapes(self) -> None:
        path = self.top / "<&>"
        path.write_text(table())
        done = self.run_tool("--svg", path)
        self.assertIn(f"VM {path}: ", str(ElementTree.fromstring(done.stdout).findall(
            f"{SVG}text")[-1].text))

    def test_one_form(self) -> None:
        done = self.of_text(ALL, "--svg", "--json")
        self.assertEqual((done.returncode, done.stdout), (2, ""))


class Process(Tool):
    """The VMs of a process, this one."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(dir=self.top)
        self.addCleanup(scratch.cleanup)
        self.kvm = Path(scratch.name)
        self.debugfs.mkdir(exist_ok=True)
        link = self.debugfs / "kvm"
        link.symlink_to(self.kvm)
        self.addCleanup(link.unlink)

    def add(self, name: str, text: str) -> None:
        (self.kvm / name).mkdir()
        (self.kvm / name / "memtype").write_text(text)

    def test_several(self) -> None:
        """In order of their numbers; also one of another thread, and none of anybody else's."""
        pid = os.getpid()
        self.add(f"{pid}-12", table(policy="legacy"))
        self.add(f"{pid}-7", ALL)
        for number in (100, 23, 101, 99, 64):
            self.add(f"{pid}-{number}", table())
        for name in (f"{pid}1-7", "1-7", f"{pid}-x", f"{pid}-7-8"):
            self.add(name, "not for us")
        (self.kvm / "exits").write_text("0\n")
        self.assertEqual([vm["name"] for vm in self.vms(str(pid))],
                         [f"{pid}-{number}" for number in (7, 12, 23, 64, 99, 100, 101)])
        printed = self.run_tool(str(pid)).stdout
        first, second, *_ = printed.split("\n\n")
        self.assertTrue(first.startswith(f"VM {pid}-7: policy honor, "))
        self.assertEqual(len(first.splitlines()), len(ROWS) + 2)
        self.assertTrue(second.startswith(f"VM {pid}-12: policy legacy, "))

        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(done.set)
        self.add(f"{thread.native_id}-9", table())
        self.assertIn(f"{thread.native_id}-9", [vm["name"] for vm in self.vms(str(pid))])

    def test_outlives_its_process(self) -> None:
        """Its VM is found by name all the same."""
        with subprocess.Popen(["true"]) as gone:
            pass
        self.add(f"{gone.pid}-7", table())
        self.assertEqual([vm["name"] for vm in self.vms(str(gone.pid))], [f"{gone.pid}-7"])

    def test_one_malformed(self) -> None:
        """It is not hidden by the others."""
        pid = os.getpid()
        self.add(f"{pid}-7", ALL)
        self.add(f"{pid}-8", "policy vax\n")
        self.refused(self.run_tool(str(pid)), f"{pid}-8/memtype: line 1: ")

    def test_no_vm(self) -> None:
        self.refused(self.run_tool(str(os.getpid())), f"process {os.getpid()} has no VM", status=3)

    def test_watch(self) -> None:
        """It prints the table again, until the VM is gone."""
        name = f"{os.getpid()}-7"
        self.add(name, table())
        with subprocess.Popen([self.top / "kvm-memtype", "--watch=1", str(os.getpid())], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout and process.stderr
            seen = [process.stdout.readline() for _ in range(4)]
            self.assertEqual(seen[:2], seen[2:])
            self.assertIn(name, seen[0])
            shutil.rmtree(self.kvm / name)
            self.assertIn("has no VM", process.stderr.read())
        self.assertEqual(process.returncode, 3)
        for seconds in ("0", "x", "86401", ""):
            self.assertEqual(self.run_tool(f"--watch={seconds}", "1").returncode, 2)

    def test_kernel_without_the_file(self) -> None:
        (self.kvm / f"{os.getpid()}-7").mkdir()
        self.refused(self.run_tool(str(os.getpid())), "-7/memtype is missing",
                     "is it protected", "CONFIG_KVM_MEMTYPE", status=4)

    def test_one_without_the_file(self) -> None:
        """The others are printed."""
        pid = os.getpid()
        (self.kvm / f"{pid}-7").mkdir()
        self.add(f"{pid}-8", table())
        done = self.run_tool(str(pid))
        self.assertEqual(done.returncode, 0)
        self.assertIn(f"{pid}-7/memtype is missing", done.stderr)
        self.assertIn(f"VM {pid}-8: policy honor, ", done.stdout)

    def test_no_debugfs(self) -> None:
        self.kvm.rmdir()
        self.addCleanup(self.kvm.mkdir)
        self.refused(self.run_tool("1"), f"{self.debugfs}/kvm is not there", "is debugfs mounted",
                     status=4)

    def test_no_permission(self) -> None:
        """Root may read everything, so the tool runs as somebody else then."""
        for directory in (self.top, self.debugfs):
            directory.chmod(0o755)
        self.kvm.chmod(0)
        self.addCleanup(self.kvm.chmod, 0o700)
        done = self.run_tool("1", **({"user": 65534, "group": 65534, "extra_groups": []}
                                     if os.getuid() == 0 else {}))
        self.refused(done, f"{self.debugfs}/kvm: Permission denied")


class Build(unittest.TestCase):
    def test_make(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            build = Path(scratch) / "build"
            subprocess.run(["make", "-s", "tool", f"BUILD={build}"], cwd=REPO, check=True)
            done = subprocess.run([build / "kvm-memtype"], check=False, text=True,
                                  stderr=subprocess.PIPE)
            self.assertTrue((build / "memtype-example").exists())
        self.assertEqual(done.returncode, 2)
        self.assertIn("/sys/kernel/debug/kvm", done.stderr)

    def test_install(self) -> None:
        """The manual page comes from the document, and bash completes the options."""
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(["make", "-s", "-C", SOURCE.parent, "install", f"DESTDIR={scratch}",
                            f"OUTPUT={scratch}/"], check=True)
            page = (Path(scratch) / "usr/share/man/man8/kvm-memtype.8").read_text()
            shared = Path(scratch) / "usr/share"
            self.assertTrue((shared / "kvm-memtype/kvm-memtype.schema.json").exists())
            completion = shared / "bash-completion/completions/kvm-memtype"
            done = subprocess.run(
                ["bash", "-c", f"source {completion}; COMP_WORDS=(kvm-memtype --); COMP_CWORD=1; "
                 "_kvm_memtype; echo ${COMPREPLY[@]}"], check=True, text=True,
                stdout=subprocess.PIPE)
        self.assertRegex(page, r"\.TH \"?KVM-MEMTYPE\"? 8")
        self.assertEqual(sorted(done.stdout.split()), sorted(re.findall(
            r"^\*\*(--\w+)", MANUAL.read_text(), re.M)))


class Example(unittest.TestCase):
    def test_usage(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(["make", "-s", "-C", SOURCE.parent, f"OUTPUT={scratch}/"], check=True)
            for words in ("--stage2", "1 2", "--stage1 x", "--stage1 1 2", "--stage1 --stage1"):
                done = subprocess.run([f"{scratch}/memtype-example", *words.split()], check=False,
                                      text=True, capture_output=True)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn("usage: memtype-example", done.stderr)

    def test_document_shows_what_runs(self) -> None:
        document = REPO / "Documentation/virt/kvm/memtype-vmm.rst"
        shown = re.findall(r"^\.\. literalinclude:: (\S+)$", document.read_text(), re.M)
        self.assertEqual([os.path.relpath(document.parent / name, REPO) for name in shown],
                         ["tools/kvm/memtype/memtype-example.c"])
        self.assertIn(os.path.relpath(document.parent / shown[0], REPO), PROGRAMS)


if __name__ == "__main__":
    unittest.main()
