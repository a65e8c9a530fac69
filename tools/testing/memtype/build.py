# SPDX-License-Identifier: GPL-2.0-only
"""Kernels, selftests and boot images, all built out of tree under BUILD and incrementally.

    <KERNEL>[-<config>]/<arch>  kernel objects; <config> is CONFIG, or a machine's own
    selftests/<arch>            selftest programs, PROGRAMS and the uapi headers of the former
    run/<machine>               initramfs, ISO and console of the last run
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import debian
import settings
import tables
import tree
from results import KUNIT
from settings import ARCHES, BUILD, CONFIG, KERNEL, REPO, TREES, fail, output, say
from tables import Machine, Test

# Where the machine's test list and programs are in the initramfs (init.c).
INSIDE = "/memtype"
# What scripts among the selftests use; they have the names and the shell of busybox.
APPLETS = ("sh", "cat", "dirname", "tee", "test", "whoami")
# What each machine has beside selftests.
PROGRAMS = ["tools/testing/memtype/init.c", "tools/kvm/memtype/kvm-memtype.c",
            "tools/kvm/memtype/memtype-example.c"]
# They see the system's headers, and of the kernel's those that the system lacks.
UAPI = ["-idirafter", str(TREES["patched"] / "include/uapi")]
# The one of these headers that is ours.
UAPI_HEADER = "include/uapi/linux/kvm_memtype.h"
# What the programs of a directory need and its Makefile does not say: a header of ours that the
# compiler reads first, and further headers that they are built from.
HEADERS = {"iommu": [f"tools/testing/memtype/iommufd_{settings.BASE.replace('.', '_')}.h",
                     "tools/testing/selftests/iommu/dma_cache_counters.h",
                     "tools/testing/selftests/iommu/dma_cache_devices.h",
                     "tools/testing/selftests/iommu/dma_cache_engine.h",
                     "tools/testing/selftests/iommu/dma_cache_order.h",
                     "tools/testing/selftests/iommu/dma_cache_trace.h",
                     "tools/testing/selftests/iommu/fault_injection.h",
                     "tools/testing/selftests/iommu/iommufd_noncoherent.h",
                     "tools/testing/selftests/iommu/mock_iommu.h",
                     "tools/testing/selftests/iommu/type1_noncoherent.h",
                     "tools/testing/selftests/iommu/vdpa_device.h",
                     "tools/testing/selftests/iommu/vfio_device.h",
                     "tools/testing/selftests/memtype/no_timeout.h",
                     "tools/testing/memtype/vfio_user/no_snoop.h",
                     "tools/testing/memtype/cache/engine.h",
                     "drivers/iommu/iommufd/iommufd_test.h", "drivers/vfio/vfio_mock.h",
                     "drivers/vfio/vfio_pci_mock.h"],
           "vfio": ["tools/testing/memtype/vfio_7_3.h",
                    "tools/testing/selftests/memtype/no_timeout.h"]}
# Of this machine itself: processes that are devices of some emulated ones, and a plugin of QEMU.
DEVICE, ENGINE, PLUGIN = (BUILD / name for name in ("vfio-user", "cache-engine", "cache-plugin.so"))
DEVICE_SOURCES, ENGINE_SOURCES, PLUGIN_SOURCES = (
    [f"tools/testing/memtype/{name}.c" for name in names.split()] for names in (
        "vfio_user/main vfio_user/server vfio_user/config vfio_user/no_snoop",
        "vfio_user/main vfio_user/server vfio_user/config cache/engine cache/model",
        "cache/plugin cache/model cache/decode_x86 cache/decode_arm64"))
# Where they are built from, for every kernel.
SELFTESTS = TREES["patched"] / "tools/testing/selftests"
# The directories of upstream's selftests that are ours to run, if the base has them, and what their
# Makefiles list.
UPSTREAM = ("kvm", "iommu", "vfio")
UPSTREAM_LISTS = ("$(TEST_GEN_PROGS)", "$(TEST_GEN_PROGS_EXTENDED)", "$(TEST_PROGS)",
                  "$(TEST_PROGS_EXTENDED)")
# How the names of kernel files end that are tests, or what tests use.
INSTRUMENT = re.compile("_(kunit|probe|test|mock)$|^selftest")
# What the objects are compiled with in which gcov counts. Without an instruction of its own, if an
# empty one, the compiler merges "return -EINVAL;" with other returns before gcov sees it.
COUNT = """\
#define return for (({ __asm__ volatile(""); });;) return
#define break ({ __asm__ volatile(""); break; })
#define continue ({ __asm__ volatile(""); continue; })
"""
# Seconds between two signs of life of a long build.
PROGRESS = 15


def objects(arch: str, config: str = CONFIG) -> Path:
    return BUILD / "-".join(filter(None, (KERNEL, config))) / arch


def environment() -> dict[str, str]:
    """ccache must hit from any clone, and the same input must give the same kernel."""
    return {**os.environ, "CCACHE_BASEDIR": str(BUILD), "CCACHE_NOHASHDIR": "1",
            # Without its depend mode a first build takes a quarter more CPU time.
            "CCACHE_DEPEND": "1", "CCACHE_NAMESPACE": "memtype",
            "KBUILD_BUILD_TIMESTAMP": "@0", "KBUILD_BUILD_USER": "memtype",
            "KBUILD_BUILD_HOST": "memtype", "LOCALVERSION": ""}


def compiler(arch: str) -> str:
    """The compiler as a variable of make: by ccache, but not of assembler sources.

    In its depend mode ccache does not see an .incbin, so that a boot image could get the kernel of
    an earlier build. The C sources that have one are the kernel's configs.c and kheaders.c.
    """
    return (f"$(if $(filter %.S %kernel/configs.c %kernel/kheaders.c,$<),,ccache )"
            f"{ARCHES[arch].cross}gcc")


def make(what: str, arch: str, log: Path, *words: str | Path, **env: str) -> None:
    """Runs make with its output in `log`."""
    watch(what, ["make", f"-j{os.cpu_count()}", f"ARCH={arch}",
                 f"CROSS_COMPILE={ARCHES[arch].cross}", f"CC={compiler(arch)}", *words], log, env)


def watch(what: str, command: Sequence[str | Path], log: Path, env: dict[str, str],
          cwd: Path | None = None) -> None:
    """Runs a build with its output in `log`, saying now and then how far it is."""
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("w", encoding="utf-8", errors="replace") as sink:
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=sink,
                                   stderr=subprocess.STDOUT, env={**environment(), **env}, cwd=cwd,
                                   process_group=0)
        try:
            while process.returncode is None:
                try:
                    process.wait(PROGRESS)
                except subprocess.TimeoutExpired:
                    steps = re.findall(r"^(?:  [A-Z]|\[\d)", log.read_text(errors="replace"), re.M)
                    say(f"  {what}: {len(steps)} steps, {time.monotonic() - start:.0f} s")
        finally:
            # What is interrupted must not go on compiling sources that change under it. make ends
            # what it has started, but dpkg-buildpackage does not.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    if process.returncode:
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines
                  if re.search(r"error[: ]|ERROR|\*\*\*|undefined reference", line)]
        fail(f"{what} failed; the first errors of {log}:\n  " + "\n  ".join(errors[:15]))
    if time.monotonic() - start > PROGRESS:
        say(f"  {what}: done, {time.monotonic() - start:.0f} s")


def fragments(arch: str, config: str = CONFIG) -> list[Path]:
    """In the order in which they count. What CONFIG= names is on top of the matrix's own
    configuration, and a machine's own is in its place."""
    shared = ["common", arch] if config in settings.CONFIGS else []
    return settings.fragments(*shared, *(["patched"] if KERNEL == "patched" else []), config)


def wanted_options(files: list[Path]) -> dict[str, str]:
    """Option → its line; a later fragment overrides an earlier one."""
    wanted = {}
    for path in files:
        for line in path.read_text().splitlines():
            match = re.match(r"(?:# )?(CONFIG_\w+)[= ]", line)
            if match:
                wanted[match[1]] = line
    return wanted


def lost_options(wanted: dict[str, str], config: str) -> list[str]:
    """The wanted lines that a .config does not have. What is off or empty may also be unknown."""
    lines = set(config.splitlines())
    return [line for option, line in wanted.items() if line not in lines
            and not (line.endswith(("is not set", '=""')) and f"{option}=" not in config)]


def configure(arch: str, out: Path | None = None, without: tuple[str, ...] = (),
              files: list[Path] | None = None, partly: bool = False, start: str = "") -> None:
    """allnoconfig + fragments; stops if an option did not survive, but where the tree may have
    only a part of them.

    `without` names options to switch off, and with them those whose names begin like them; `files`
    are other fragments, and `start` is a whole .config that has the place of allnoconfig.
    """
    out = out or objects(arch)
    wanted = {option: line for option, line in wanted_options(files or fragments(arch)).items()
              if not option.startswith(without)}
    wanted.update({option: f"# {option} is not set" for option in without})
    merged = "\n".join(wanted.values()) + "\n"
    stamp = out / "memtype.config"
    key = f"# {output(['git', '-C', TREES[KERNEL], 'rev-parse', 'HEAD^{tree}'])}{start}{merged}"
    if stamp.exists() and stamp.read_text() == key and (out / ".config").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    fragment = out / "memtype.fragment"
    fragment.write_text(merged)
    if start:
        # Of two lines for an option, the later one counts.
        (out / ".config").write_text(start + merged)
    make(f"{arch} configuration", arch, out / "config.log", "-C", TREES[KERNEL], f"O={out}",
         *(["olddefconfig"] if start else [f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"]))
    lost = lost_options(wanted, (out / ".config").read_text())
    if lost and not partly:
        fail(f"{arch}: these options did not survive (a dependency is missing?):\n  "
             + "\n  ".join(lost))
    stamp.write_text(key)


def is_instrument(name: str) -> bool:
    """Whether a kernel file is a test or what tests use, by its name."""
    return bool(INSTRUMENT.search(Path(name).stem))


def profile(arch: str) -> list[str]:
    """Of CONFIG=coverage: the variables of make by which gcov counts in the objects that are ours
    or hooked, and in no others.

    GCOV_PROFILE_<object> would also mean another directory's object of that name. The name of a
    target may have .. in it, and is relative to where kbuild runs.
    """
    header = objects(arch) / "coverage.h"
    if not header.exists() or header.read_text() != COUNT:
        header.write_text(COUNT)
    names = " ".join(str(Path(name).with_suffix(".o")) for name in tree.kernel_sources(arch)
                     if not is_instrument(name))
    ours = f"$(filter $(abspath {names}),$(abspath $@))"
    return [f"GCOV_PROFILE={ours}", f"CC={compiler(arch)}$(if {ours}, -include {header})"]


def kernel(arch: str, config: str = CONFIG) -> Path:
    """Builds the kernel and returns its boot image."""
    out = objects(arch, config)
    configure(arch, out, files=fragments(arch, config))
    image = ARCHES[arch].image
    make(" ".join(filter(None, (arch, config, KERNEL, "kernel"))), arch, out / "build.log", "-C",
         TREES[KERNEL], f"O={out}", Path(image).name,
         *(profile(arch) if config == "coverage" else []))
    return out / image


def selftest_programs(arch: str, out: Path, wanted: list[Path], what: str, *words: str,
                      cflags: str = "") -> Path:
    """Builds selftest programs of one directory with its own Makefile; returns make's log."""
    directory = wanted[0].parts[0]
    local = [str((TREES["patched"] / name).resolve()) for name in HEADERS.get(directory, [])]
    first = f"-include {local[0]} " if local else ""
    libraries = [debian.unpacked(package, arch) / "usr"
                 for package in settings.BASES[settings.BASE].libraries]
    headers = BUILD / "selftests" / arch / "headers/usr/include"
    log = out / f"{directory}.log"
    (out / directory).mkdir(parents=True, exist_ok=True)
    make(what, arch, log, "-C", SELFTESTS / directory,
         f"OUTPUT={out / directory}", f"LINUX_HDR_PATH={headers}",
         "KHDR_INCLUDES=" + " ".join(f"-isystem {path}" for path in
                                     [headers, *(usr / "include" for usr in libraries)]),
         "LDFLAGS=" + " ".join(["-pthread -no-pie -static", *(
             f"-L{path}" for usr in libraries for path in usr.glob("lib/*-linux-gnu"))]),
         # Where there is a library beside the programs, CFLAGS is not taken from outside.
         f"--eval=%_test.o: EXTRA_CFLAGS = {first}",
         *words, *[out / path for path in wanted], CFLAGS=first + cflags,
         LOCAL_HDRS=" ".join(local))
    return log


def selftests(arch: str, also: list[Path] | None = None) -> Path:
    """Builds PROGRAMS, the selftest programs of tests.toml and `also`; returns where they are.

    They come from the patched tree for every kernel, so that KERNEL=base runs the same probes.
    """
    tree = TREES["patched"]
    out = BUILD / "selftests" / arch
    make(f"{arch} headers", arch, out / "headers.log", "-C", tree, f"O={out / 'headers'}",
         "headers")
    wanted = tables.programs(arch, slow=settings.TARGET == "compat") + (also or [])
    for directory in sorted({path.parts[0] for path in wanted}):
        selftest_programs(arch, out, [path for path in wanted if path.parts[0] == directory],
                          f"{arch} {directory} selftests")
    for name in PROGRAMS:
        source = tree / name
        program = out / source.stem
        newest = max(path.stat().st_mtime
                     for path in (source, tree / UAPI_HEADER, *source.parent.glob("*.h")))
        if not program.exists() or program.stat().st_mtime < newest:
            output([f"{ARCHES[arch].cross}gcc", "-O2", "-static", "-Wall", "-Wextra", "-Werror",
                    *UAPI, "-o", program, source])
    return out


def host_program(target: Path, sources: list[str], *options: str) -> None:
    """Builds what runs on this machine itself."""
    output(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", *options, "-o", target,
            *(TREES["patched"] / name for name in sources)])


def device() -> None:
    """Builds DEVICE."""
    host_program(DEVICE, DEVICE_SOURCES)


def caches() -> None:
    """Builds ENGINE and PLUGIN."""
    host_program(ENGINE, ENGINE_SOURCES)
    host_program(PLUGIN, PLUGIN_SOURCES, "-shared", "-fPIC", "-fvisibility=hidden")


def upstream_programs(arch: str) -> list[str]:
    """The programs of upstream's Makefiles, as <directory>/<program>, by their own word."""
    found = []
    for directory in filter(lambda name: (SELFTESTS / name).is_dir(), UPSTREAM):
        listed = output(["make", "-s", "-C", SELFTESTS / directory, f"ARCH={arch}",
                         f"CROSS_COMPILE={ARCHES[arch].cross}", "OUTPUT=/out", "--eval",
                         f"memtype-list: ; @echo {' '.join(UPSTREAM_LISTS)}", "memtype-list"]
                        ).split()
        found += [f"{directory}/{name.removeprefix('/out/')}" for name in listed]
    return [name for name in found
            if not (REPO / "tools/testing/selftests" / f"{name}.c").exists()]


def initramfs(machine: Machine, tests: list[Test], target: Path, shell: Path | None = None,
              guest: dict[str, Path] | None = None,
              carried: dict[str, Path] | None = None) -> None:
    """Packs PROGRAMS, the test list and its programs with the kernel's own gen_init_cpio, and what
    the machine's own guest boots, and other files that the machine carries, by their path."""
    arch = machine.arch
    built = BUILD / "selftests" / arch
    target.parent.mkdir(parents=True, exist_ok=True)
    programs = [test for test in tests if test.suite != KUNIT]
    scripts = {test.program for test in programs if test.program.endswith(".sh")}
    listing = target.parent / "tests"
    listing.write_text("".join(" ".join([
        test.suite, *([f"{INSIDE}/sh"] if test.program in scripts else []),
        f"{INSIDE}/{test.program}", *test.args]) + "\n" for test in programs))
    entries = [f"dir {path} 0755 0 0" for path in ("/dev", "/bin", INSIDE)]
    entries += ["nod /dev/console 0600 0 0 c 5 1", f"file /init {built}/init 0755 0 0",
                f"file {INSIDE}/tests {listing} 0644 0 0",
                *(f"file {INSIDE}/{name} {built}/{name} 0755 0 0"
                  for name in ("kvm-memtype", "memtype-example"))]
    if shell:
        entries.append(f"file /bin/busybox {shell} 0755 0 0")
    directories: set[str] = set()
    files = {}
    for test in programs:
        path = Path(test.program)
        directories.update(str(parent) for parent in path.parents if str(parent) != ".")
        if test.program in scripts:
            files[test.program] = f"file {INSIDE}/{path} {SELFTESTS / path} 0755 0 0"
            path = path.with_suffix("")
        # Debug information would fill the initramfs; the unstripped program stays under BUILD.
        stripped = target.parent / "programs" / path
        stripped.parent.mkdir(parents=True, exist_ok=True)
        output([f"{ARCHES[arch].cross}strip", "-o", stripped, built / path])
        files[str(path)] = f"file {INSIDE}/{path} {stripped} 0755 0 0"
    entries += [f"dir {INSIDE}/{path} 0755 0 0" for path in sorted(directories)]
    entries += files.values()
    if scripts:
        passwd = target.parent / "passwd"
        passwd.write_text("root:x:0:0:root:/:/bin/sh\n")
        entries += ["dir /etc 0755 0 0", f"file /etc/passwd {passwd} 0644 0 0",
                    f"file {INSIDE}/busybox {debian.busybox(arch)} 0755 0 0",
                    *(f"slink {INSIDE}/{name} busybox 0777 0 0" for name in APPLETS)]
    if guest:
        entries.append(f"dir {INSIDE}/guest 0755 0 0")
        entries += [f"file {INSIDE}/guest/{name} {path} 0644 0 0" for name, path in guest.items()]
    carried = carried or {}
    above = {str(parent) for name in carried for parent in Path(name).parents}
    entries += [f"dir {name} 0755 0 0" for name in sorted(above - {"/"})]
    entries += [f"file {name} {file} 0755 0 0" for name, file in carried.items()]
    spec = target.parent / "initramfs.spec"
    spec.write_text("\n".join(entries) + "\n")
    with target.open("wb") as sink:
        subprocess.run([objects(*machine.kernel) / "usr/gen_init_cpio", spec], stdout=sink,
                       check=True)


def iso(image: Path, initrd: Path, cmdline: str, target: Path) -> None:
    """An El Torito image for emulators that cannot load a kernel themselves."""
    root = target.parent / "iso"
    shutil.rmtree(root, ignore_errors=True)
    (root / "isolinux").mkdir(parents=True)
    shutil.copy(image, root / "kernel")
    shutil.copy(initrd, root / "initrd")
    shutil.copy("/usr/lib/ISOLINUX/isolinux.bin", root / "isolinux")
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", root / "isolinux")
    (root / "isolinux/isolinux.cfg").write_text(
        f"default test\nlabel test\n  kernel /kernel\n  append initrd=/initrd {cmdline}\n")
    output(["xorriso", "-as", "mkisofs", "-quiet", "-o", target, "-b", "isolinux/isolinux.bin",
            "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4",
            "-boot-info-table", root])


def decode(machine: Machine, log: list[str]) -> list[str]:
    """The log with addresses as file:line, by the kernel's own script."""
    vmlinux = objects(*machine.kernel) / "vmlinux"
    script = TREES[KERNEL] / "scripts/decode_stacktrace.sh"
    done = subprocess.run(["bash", script, vmlinux, TREES[KERNEL]], input="\n".join(log) + "\n",
                          text=True, capture_output=True, check=False, cwd=BUILD,
                          env={**os.environ, "CROSS_COMPILE": ARCHES[machine.arch].cross})
    return done.stdout.splitlines() if done.returncode == 0 and done.stdout else log
