# SPDX-License-Identifier: GPL-2.0-only
"""What the user chose, where everything lies, and the few helpers that all parts share.

The Makefile exports the user's choices as environment variables; nothing else reads them.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

# What the caller's environment must not change: git's own variables (as in a hook), the flags of an
# outer make, and the language of messages that are looked at.
for _name in [name for name in os.environ if name.startswith(("GIT_", "MAKE", "MFLAGS", "LC_"))]:
    del os.environ[_name]
os.environ["LC_ALL"] = "C.UTF-8"

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[2]


def _path(name: str, default: str) -> Path:
    return (REPO / (os.environ.get(name) or default)).absolute()


KSRC = os.environ.get("KSRC", "")
KERNEL = os.environ.get("KERNEL") or "patched"
CONFIG = os.environ.get("CONFIG", "")
MACHINE = os.environ.get("MACHINE", "")
TEST = os.environ.get("TEST", "")
HOOK = os.environ.get("HOOK", "")
SENDER = os.environ.get("SENDER", "")
JOBS = os.environ.get("JOBS") or "2"
KCONFIG = os.environ.get("KCONFIG") or "debian"
ARCH = os.environ.get("ARCH", "")

# Kernel configurations, by CONFIG: beside the matrix's own (empty), configs/<CONFIG>.config.
CONFIGS = ("", "debug", "coverage", "vmm")

# What runs machines, as the user calls it.
TARGET = "vmm" if CONFIG == "vmm" else "matrix"

# In the environment of what a command starts that has locked this BUILD.
LOCKED = "MEMTYPE_LOCKED"


class Error(Exception):
    """Something the user can do something about: shown as one message, without a traceback."""


def fail(message: str) -> NoReturn:
    raise Error(message)


def fragments(*configs: str) -> list[Path]:
    """The files of kernel options that configurations are made of, by their names joined by "-".
    <name>_<base>.config has what only that base has."""
    names = [name for config in configs for name in filter(None, config.split("-"))]
    paths = [HERE / "configs" / f"{name}{own}.config" for name in names for own in ("", f"_{BASE}")]
    return [path for path in paths if path.exists() or not path.stem.endswith(f"_{BASE}")]


def table(name: str) -> dict[str, Any]:
    """A file of tables beside this one."""
    path = HERE / name
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        fail(f"{path}: {error}")


def checked(kind: type[Any], where: str, values: dict[str, Any]) -> Any:
    """An object of the dataclass `kind`; unknown and missing fields are errors."""
    known = {item.name for item in fields(kind)}
    if set(values) - known:
        fail(f"{where}: unknown field {', '.join(sorted(set(values) - known))}")
    try:
        return kind(**values)
    except TypeError as error:
        fail(f"{where}: {error}")


@dataclass(frozen=True)
class Source:
    """One table of bases.toml."""
    package: str
    suites: list[str] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    renames: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> str:
        """Debian's package of its own configurations."""
        return self.package.replace("source", "config")


# By the names of their directories below patches/; the first is the default.
BASES: dict[str, Source] = {name: checked(Source, f"bases.toml: {name}", values)
                            for name, values in table("bases.toml").items()}


def kernel_version(makefile: str, where: str | Path) -> str:
    """The release that a kernel's top Makefile says."""
    parts = [re.search(rf"^{key} = *(.*)$", makefile, re.M)
             for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION")]
    if not all(parts):
        fail(f"{where} is not a kernel tree: its Makefile has no VERSION")
    version, patchlevel, sublevel, extra = [part.group(1).strip() for part in parts if part]
    return f"{version}.{patchlevel}.{sublevel}{extra}"


def base_name(version: str) -> str:
    """How the directory of the hooks for a kernel release is called."""
    return ".".join(version.split(".")[:2])


def _base() -> str:
    """BASE=, or what KSRC= is; the default if that is no base, which is said where it is laid."""
    default = next(iter(BASES))
    if not KSRC:
        return os.environ.get("BASE") or default
    try:
        makefile = (Path(KSRC) / "Makefile").read_text()
        name = base_name(kernel_version(makefile, KSRC))
    except (OSError, Error):
        return default
    return name if name in BASES else default


BASE = _base()
# The user's BUILD, with what bases share. All else of another base than the default is in a
# directory of its own.
SHARED = _path("BUILD", "build")
_own = "" if BASE == next(iter(BASES)) else BASE
BUILD = SHARED / _own
OUT = _path("OUT", "out") / _own

# Kernel trees, by KERNEL: with all patches, or with the test instruments only.
TREES = {"patched": BUILD / "linux", "base": BUILD / "linux-base"}


@dataclass(frozen=True)
class Arch:
    """One table of architectures.toml."""
    kernel: str             # its directory below arch/
    cross: str              # prefix of its compiler
    image: str              # what machines boot
    console: str            # of the kernel's command line
    debian: str             # what Debian calls it
    qemu: str               # its QEMU
    vmm: str                # Debian's package of that
    full_barrier: str       # pattern of the instructions that order all memory accesses
    packages: dict[str, str]
    run_loop: bool = False  # its run loop relies on the barrier of SRCU


# By the names that kbuild's ARCH= takes.
ARCHES: dict[str, Arch] = {
    name: checked(Arch, f"architectures.toml: {name}", values)
    for name, values in table("architectures.toml").items()}


def say(message: str) -> None:
    print(message, flush=True)


def variables() -> str:
    """The user's choices that decide what runs and where, as one would type them after `make`."""
    chosen = {"KSRC": KSRC, "BASE": "" if KSRC or not _own else BASE,
              "KERNEL": "" if KERNEL == "patched" else KERNEL,
              "CONFIG": "" if TARGET == CONFIG else CONFIG,
              "BUILD": "" if SHARED == REPO / "build" else str(SHARED)}
    return "".join(f" {key}={shlex.quote(value)}" for key, value in chosen.items() if value)


def check_choices() -> None:
    if BASE not in BASES:
        fail(f"BASE={BASE}: must be one of {', '.join(BASES)}")
    if os.environ.get("BASE", BASE) not in ("", BASE):
        fail(f"BASE={os.environ['BASE']}: but KSRC={KSRC} is {BASE}")
    if KERNEL not in TREES:
        fail(f"KERNEL={KERNEL}: must be one of {', '.join(TREES)}")
    if CONFIG not in CONFIGS:
        fail(f"CONFIG={CONFIG}: must be empty or {' or '.join(filter(None, CONFIGS))}")
    if CONFIG == "coverage" and KERNEL != "patched":
        fail(f"CONFIG=coverage counts the lines of our patches, which KERNEL={KERNEL} lacks")
    if not JOBS.isdecimal() or int(JOBS) < 1:
        fail(f"JOBS={JOBS}: must be a number of at least 1")


def output(command: Sequence[str | Path], **kwargs: object) -> str:
    """The standard output of a command that must succeed."""
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **kwargs)  # type: ignore[call-overload]
    if done.returncode:
        fail(f"{shlex.join(map(str, command))}:\n{done.stderr.strip()}")
    return str(done.stdout)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """A table for a terminal, from its lines of cells."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip()
                     for line in lines)


def terminate(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """BUILD is this process's, and that of the commands that it starts; others are refused."""
    if os.environ.get(LOCKED) == str(SHARED):
        yield
        return
    SHARED.mkdir(parents=True, exist_ok=True)
    with (SHARED / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            fail(f"{SHARED} is in use by {lock.read().strip() or 'another make'}: wait for it, or "
                 "set BUILD= and OUT= to other directories")
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, {' '.join(sys.argv)}, since "
                   f"{datetime.datetime.now().isoformat(' ', 'seconds')}\n")
        lock.flush()
        os.environ[LOCKED] = str(SHARED)
        try:
            yield
        finally:
            lock.truncate(0)


def usage(entry: dict[str, Callable[..., int | None]], document: str) -> str:
    """What --help prints of a script: its docstring, and what its arguments do."""
    lines = [document.strip(), "", f"usage: {Path(sys.argv[0]).name} COMMAND [ARGUMENT]", ""]
    for name, function in entry.items():
        said = (function.__doc__ or "").split("\n\n")[0]
        lines.append(f"  {name:10} {' '.join(said.split())}".rstrip())
    return "\n".join([*lines, "", "make calls this with its variables in the environment; "
                      "`make help` lists them."])


def main(entry: dict[str, Callable[..., int | None]], document: str | None,
         reads: tuple[str, ...] = ()) -> NoReturn:
    """Runs the function that the command line names; errors of the user's become one message.

    `document` is the script's docstring; the entries in `reads` only read, and need no lock."""
    arguments = sys.argv[1:]
    wanted = "-h" in arguments or "--help" in arguments
    if wanted or not arguments or arguments[0] not in entry:
        print(usage(entry, document or ""), file=sys.stdout if wanted else sys.stderr)
        sys.exit(0 if wanted else 2)
    # However the user ends us, emulators and builds end with us.
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGHUP, terminate)
    try:
        check_choices()
        with contextlib.nullcontext() if arguments[0] in reads else locked():
            status = entry[arguments[0]](*arguments[1:])
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status or 0)
