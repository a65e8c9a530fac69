# SPDX-License-Identifier: GPL-2.0-only
"""What the user chose, where everything lies, and the few helpers that all parts share.

The Makefile exports the user's choices as environment variables; nothing else reads them.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn, Sequence

# What the caller's environment must not change: git's own variables (as in a hook), the flags of an
# outer make, and the language of messages that are looked at.
for _name in [name for name in os.environ if name.startswith(("GIT_", "MAKE", "MFLAGS", "LC_"))]:
    del os.environ[_name]
os.environ["LC_ALL"] = "C.UTF-8"

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[2]


def _path(name: str, default: str) -> Path:
    return (REPO / (os.environ.get(name) or default)).absolute()


BUILD = _path("BUILD", "build")
OUT = _path("OUT", "out")
KSRC = os.environ.get("KSRC", "")
KERNEL = os.environ.get("KERNEL") or "patched"
CONFIG = os.environ.get("CONFIG", "")
MACHINE = os.environ.get("MACHINE", "")
TEST = os.environ.get("TEST", "")
HOOK = os.environ.get("HOOK", "")
JOBS = os.environ.get("JOBS") or "2"

# Kernel configurations, by CONFIG: beside the matrix's own (empty), configs/<CONFIG>.config.
CONFIGS = ("", "debug", "vmm")

# What runs machines, as the user calls it.
TARGET = "vmm" if CONFIG == "vmm" else "matrix"

# Kernel trees, by KERNEL: with all patches, or with the test instruments only.
TREES = {"patched": BUILD / "linux", "base": BUILD / "linux-base"}

# Our names for the architectures: how kbuild calls them, the cross compiler, the boot image.
ARCHES = {
    "x86_64": ("", "arch/x86/boot/bzImage"),
    "arm64": ("aarch64-linux-gnu-", "arch/arm64/boot/Image"),
}


class Error(Exception):
    """Something the user can do something about: shown as one message, without a traceback."""


def fail(message: str) -> NoReturn:
    raise Error(message)


def say(message: str) -> None:
    print(message, flush=True)


def variables() -> str:
    """The user's choices that decide what runs and where, as one would type them after `make`."""
    chosen = {"KSRC": KSRC, "KERNEL": "" if KERNEL == "patched" else KERNEL,
              "CONFIG": "" if TARGET == CONFIG else CONFIG,
              "BUILD": "" if BUILD == REPO / "build" else str(BUILD)}
    return "".join(f" {key}={shlex.quote(value)}" for key, value in chosen.items() if value)


def check_choices() -> None:
    if KERNEL not in TREES:
        fail(f"KERNEL={KERNEL}: must be one of {', '.join(TREES)}")
    if CONFIG not in CONFIGS:
        fail(f"CONFIG={CONFIG}: must be empty or {' or '.join(filter(None, CONFIGS))}")
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


def main(entry: dict[str, object]) -> NoReturn:
    """Runs the function that the command line names; errors of the user's become one message."""
    # However the user ends us, emulators and builds end with us.
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGHUP, terminate)
    try:
        check_choices()
        function = entry[sys.argv[1]]
        status = function(*sys.argv[2:])  # type: ignore[operator]
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
