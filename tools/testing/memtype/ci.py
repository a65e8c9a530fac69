# SPDX-License-Identifier: GPL-2.0-only
"""`make ci-jobs`: what other people's CI systems run, from the same tables as our machines.

    lava-<machine>.yaml     a LAVA job that boots the machine in a lab's own QEMU
    lava-board-<arch>.yaml  a LAVA job for real hardware, with a tarball of `make selftests-tar`
    tuxrun-<arch>.sh        tuxrun with the same tarball
    kernelci.yaml           what KernelCI's pipeline needs: fragment, platforms, jobs, scheduler

What only a lab knows is a variable, ${NAME}, which envsubst or the lab's own scripts replace.
"""

from __future__ import annotations

import importlib
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import machine
import settings
import tables
import tarball
from results import KUNIT
from settings import ARCHES, OUT, say
from tables import Machine, Test

# Each variable of the jobs, and what it stands for.
VARIABLES = {
    "KERNEL_URL": "the boot image of the kernel",
    "INITRD_URL": "the machine's initramfs: BUILD/run/<machine>/initrd, once make matrix ran it",
    "ROOTFS_URL": "a root file system (.tar.xz) with Python 3.11 or newer",
    "IMAGE_URL": "an image of a root file system (.ext4.xz) with Python 3.11 or newer",
    "TESTS_URL": "the tarball for this architecture that make selftests-tar writes",
    "DEVICE_TYPE": "what the lab calls such boards",
    "BOOT_METHOD": "how LAVA boots them: grub, u-boot, ...",
    "RUNTIME": "KernelCI's name of the lab",
    "KBUILD_X86_64": "KernelCI's job that builds with the fragments memtype and kselftest",
    "KBUILD_ARM64": "the same, for arm64",
}
# Where a tarball is unpacked, and what it has at its top (tarball.py).
RUN = "/memtype-selftests-{arch}/run.sh"
# Minutes that a lab may take to fetch and unpack, and to boot.
DEPLOY, BOOT = 15, 15
# What a line of the console can be a result of: a test of KTAP, or the end of a program (init.c).
TEST, END = r"(?=(?:not )?ok \d)", r"> end (?=\S+ (?:exit|signal)=)"
# The result of that line and its name. LAVA wants one group for each, whatever the line is, and
# reads the console while that comes in, so that the line must be there to its end.
RESULT = (r"(?=(?:[^\r\n]*(?=# SKIP)|\S+ (?=exit=|signal=)|)"
          r"(?P<result># SKIP|not ok|ok|exit=[04](?=[\r\n])|exit|signal))"
          r"(?:(?:not )?ok \d+ (?:- )?)?"
          r"(?P<test_case_id>(?:# SKIP )?\S[^#\r\n]*?)(?= *#| exit=| signal=|[\r\n])"
          r"[^\r\n]*[\r\n]")
FIXUP = {"ok": "pass", "not ok": "fail", "# SKIP": "skip",
         "exit=0": "pass", "exit=4": "skip", "exit": "fail", "signal": "fail"}
# How run.sh of a tarball ended, and the result of each program, which are not indented. envsubst
# empties all that it knows as a variable: $name and ${name}, but not ${name:-}.
ENDED = (r'case "$(cat /tmp/code)" in 0) result=pass ;; 4) result=skip ;; *) result=fail ;; esac; '
         r'lava-test-case run.sh --result "${result:-}"')
REPORT = (r"sed -nE -e 's/^(not )?ok [0-9]+ (- )?([^#]*[^# ]) *# SKIP.*/skip \3/p;t' "
          r"-e 's/^ok [0-9]+ (- )?([^#]*[^# ]).*/pass \2/p' "
          r"-e 's/^not ok [0-9]+ (- )?([^#]*[^# ]).*/fail \2/p' /tmp/ktap | "
          r'while read -r result name; do lava-test-case '
          r'''"$(printf %s "${name:-}" | tr -c A-Za-z0-9._- _)" --result "${result:-}"; done''')
# tuxrun's x86 machine has no SVM or VMX of its own; its arm64 one has EL2.
TUXRUN = {"x86_64": ["--enable-kvm"]}


def minutes(tests: Sequence[Test]) -> int:
    """LAVA and tuxrun want a limit by the clock: that of all suites together, and then some."""
    return math.ceil(2 * sum(test.timeout for test in tests) / 60)


def emulated(machines: Mapping[str, Machine]) -> dict[str, Machine]:
    """The machines that a QEMU of the lab's own can be: their command line needs nothing of ours,
    and their architecture's own QEMU."""
    return {name: item for name, item in machines.items() if item.emulator == "qemu"
            and item.command.split()[0] == ARCHES[item.arch].qemu
            and set(re.findall(r"{\w+}", item.command)) == ({"{cpu}"} if item.cpu else set())}


def context(item: Machine) -> dict[str, Any]:
    """The variables of LAVA's device type qemu that make it this machine.

    It has variables for the CPU and the rest, too, but LAVA's template for x86 ignores them. Of two
    options, the later one holds in QEMU, and that is ours. The template's own network card stays.
    """
    options: list[str] = []
    for word in shlex.split(item.command.format(cpu=item.cpu))[1:]:
        if word.startswith("-"):
            options.append(word)
        else:
            options[-1] += f" {word}"
    return {"arch": item.arch, "no_kvm": True, "netdevice": "user",
            "extra_options": [option for option in options if option != "-net none"]}


def monitor(test: Test) -> dict[str, Any]:
    """What LAVA reads of a suite on the console: its tests, and how its program ended."""
    found = {"name": test.suite.replace("/", "."), "fixupdict": FIXUP}
    if test.suite == KUNIT:
        return {**found, "start": "KTAP version 1", "end": "memtype> boot",
                "pattern": rf"\] +{TEST}{RESULT}"}
    lines = rf"(?:\| +{TEST}|{END})" if test.ktap else END
    # Whatever is next stays on the console, for the next one to start with.
    return {**found, "start": rf"memtype> start {test.suite}[\r\n]",
            "end": r"(?=memtype> (?:start|done))", "pattern": f"memtype{lines}{RESULT}"}


def job(name: str, device_type: str, limit: int, actions: list[dict[str, Any]],
        **more: Any) -> dict[str, Any]:
    """A LAVA job."""
    return {"job_name": f"memtype {name}", "device_type": device_type, "visibility": "public",
            "priority": "medium", **more,
            "timeouts": {"job": {"minutes": DEPLOY + BOOT + limit},
                         "action": {"minutes": max(DEPLOY, BOOT)},
                         "actions": {"power-off": {"seconds": 30}}},
            "actions": actions}


def lava_machine(item: Machine, tests: Sequence[Test]) -> dict[str, Any]:
    """One of our machines: LAVA boots it with our initramfs, and follows its console to the end."""
    mine = [test for test in tests if item.name in test.machines]
    # KUnit is over before the first program starts.
    mine.sort(key=lambda test: test.suite != KUNIT)
    limit = minutes(mine)
    # LAVA's boot action ends when QEMU runs, so that the kernel boots while LAVA waits for results.
    waits = {"minutes": BOOT + limit}
    append = machine.kernel_cmdline(item, [test.suite for test in mine])
    found = job(item.name, "qemu", limit, [
        {"deploy": {"to": "tmpfs", "timeout": {"minutes": DEPLOY}, "images": {
            "kernel": {"image_arg": f'-kernel {{kernel}} -append "{append}"',
                       "url": "${KERNEL_URL}"},
            "initrd": {"image_arg": "-initrd {initrd}", "url": "${INITRD_URL}"}}}},
        {"boot": {"method": "qemu", "media": "tmpfs", "timeout": {"minutes": BOOT}}},
        {"test": {"timeout": waits, "monitors": [monitor(test) for test in mine]}},
    ], context=context(item), metadata={"proves": item.proves, "proves-not": item.proves_not})
    # By default, LAVA waits 30 s for each result, and for the first.
    found["timeouts"]["connections"] = {"lava-test-monitor": waits}
    return found


def lava_board(arch: str) -> dict[str, Any]:
    """Real hardware of an architecture, by NFS: each program of the tarball is a test case."""
    tests = tarball.ours(arch)
    limit = minutes(tests)
    steps = [f"{{ {RUN.format(arch=arch)} && echo 0 >/tmp/code || echo $? >/tmp/code; }} 2>&1"
             " | tee /tmp/ktap", ENDED, REPORT]
    definition = {
        "from": "inline", "name": "memtype", "path": "inline/memtype.yaml",
        "repository": {"metadata": {"format": "Lava-Test Test Definition 1.0", "name": "memtype",
                                    "description": ", ".join(test.program for test in tests)},
                       "run": {"steps": steps}}}
    return job(f"board {arch}", "${DEVICE_TYPE}", limit, [
        {"deploy": {"to": "tftp", "os": "debian", "timeout": {"minutes": DEPLOY},
                    "kernel": {"url": "${KERNEL_URL}", "type": "image"},
                    "nfsrootfs": {"url": "${ROOTFS_URL}", "compression": "xz", "format": "tar",
                                  "overlays": {"memtype": {
                                      "url": "${TESTS_URL}", "compression": "gz", "format": "tar",
                                      "path": "/"}}}}},
        {"boot": {"method": "${BOOT_METHOD}", "commands": "nfs", "timeout": {"minutes": BOOT},
                  "auto_login": {"login_prompt": "login:", "username": "root"},
                  "prompts": [r"root@(.*):[/~]#", "/ #"]}},
        {"test": {"timeout": {"minutes": limit}, "definitions": [definition]}},
    ])


def tuxrun(arch: str) -> str:
    """The command line of tuxrun, as a script: one test case, which is the tarball's run.sh."""
    words = ["exec tuxrun", f"--device qemu-{arch}", '--kernel "$KERNEL_URL"',
             '--rootfs "$IMAGE_URL"', '--overlay "$TESTS_URL"', *TUXRUN.get(arch, []),
             "--parameters command-name=memtype",
             f"--timeouts commands={minutes(tarball.ours(arch))}", '"$@"',
             f"-- {RUN.format(arch=arch)}"]
    checks = "".join(f': "${{{name}:?{VARIABLES[name]}}}"\n'
                     for name in ("KERNEL_URL", "IMAGE_URL", "TESTS_URL"))
    return f"#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0-only\n{checks}" + " \\\n\t".join(
        words) + "\n"


def kernelci(machines: Mapping[str, Machine]) -> dict[str, Any]:
    """What is merged into the configuration of KernelCI's pipeline. That builds kernel and programs
    from a tree of its own.

    Its template for QEMU has no place for a kernel command line, so the machines are those that are
    not like another one.
    """
    machines = {name: item for name, item in machines.items() if len(item.family) == 1}
    arches = list(dict.fromkeys(item.arch for item in machines.values()))
    options = {line for arch in arches for line in tarball.options(arch)}
    suites = {f"kselftest-{name}-memtype": {
        "template": "generic.jinja2", "kind": "job", "priority": "medium",
        "params": {"test_method": "kselftest", "collections": name, "boot_commands": "ramdisk",
                   "rootfs_ref": "trixie-kselftest",
                   "job_timeout": max(minutes(tarball.ours(arch)) for arch in arches)},
        "kcidb_test_suite": f"kselftest.{name}"} for name in ("kvm", "iommu")}
    return {
        "fragments": {"memtype": {"path": "kernel/configs/memtype.config",
                                  "configs": sorted(options)}},
        "platforms": {f"memtype-{name}": {
            "base_name": "qemu", "arch": item.arch, "boot_method": "qemu", "mach": "qemu",
            "context": context(item)} for name, item in machines.items()},
        "scheduler": [{
            "job": name, "runtime": {"type": "lava", "name": "${RUNTIME}"},
            "event": {"channel": "node", "kind": "kbuild", "state": "available",
                      "name": f"${{KBUILD_{arch.upper()}}}"},
            "platforms": [f"memtype-{item.name}" for item in machines.values()
                          if item.arch == arch]} for name in suites for arch in arches],
        # The pipeline's own check takes all that follows for jobs.
        "jobs": suites}


def document(content: Any) -> str:
    """YAML, after a comment that says what its variables stand for."""
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        settings.fail("this needs Python's yaml, which is in Debian's python3-yaml")
    # No line is folded: a pattern or a command line is one line. And nothing is an alias.
    yaml.SafeDumper.ignore_aliases = lambda self, data: True
    text = str(yaml.safe_dump(content, sort_keys=False, width=math.inf))
    used = [f"# ${{{name}}}: {what}\n" for name, what in VARIABLES.items()
            if f"${{{name}}}" in text]
    return f"# SPDX-License-Identifier: GPL-2.0-only\n{''.join(used)}{text}"


def jobs() -> dict[str, str]:
    """The files by their names, of the machines and tests that MACHINE= and TEST= leave."""
    machines, tests = tables.select()
    found = emulated(machines)
    files = {f"lava-{name}.yaml": document(lava_machine(item, tests))
             for name, item in found.items()}
    for arch in dict.fromkeys(item.arch for item in found.values()):
        files[f"lava-board-{arch}.yaml"] = document(lava_board(arch))
        files[f"tuxrun-{arch}.sh"] = tuxrun(arch)
    if any(len(item.family) == 1 for item in found.values()):
        files["kernelci.yaml"] = document(kernelci(found))
    return files


def write(out: Path = OUT / "ci") -> None:
    """Write the jobs to OUT/ci."""
    files = jobs()
    if not files:
        settings.fail("none of these machines is one that a lab's own QEMU can be")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text)
        (out / name).chmod(0o755 if text.startswith("#!") else 0o644)
    say(f"{out}: {', '.join(files)}")


if __name__ == "__main__":
    settings.main({"write": write}, __doc__, reads=("write",))
