# SPDX-License-Identifier: GPL-2.0-only
"""Do the kernel's own documents build, of the documents that are ours or hooked?"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import build
import tree
from settings import ARCHES, BUILD, TREES


def our_warnings(log: str, linux: Path) -> list[str]:
    """What Sphinx says of files of ours, and of our lines in the kernel's."""
    overlay = set(tree.overlay_files())
    lines = tree.our_lines()
    problems = []
    for line in log.splitlines():
        match = re.match(r"(\S+?):(?:(\d+):)? (?:WARNING|ERROR|SEVERE|CRITICAL|warning|error): ",
                         line)
        if match:
            name = os.path.relpath(linux / match[1], linux)
            if name in overlay or (name, int(match[2] or 0)) in lines:
                problems.append(line)
    return problems


def warnings() -> list[str]:
    """The kernel's own documents build, of the documents that are ours or hooked."""
    linux, out = TREES["patched"].resolve(), BUILD / "check/documents"
    overlay = set(tree.overlay_files())
    names = {name for name in overlay | {name for name, _ in tree.our_lines()}
             if name.startswith("Documentation/") and name.endswith(".rst")}
    # Only what has an index can be built alone, and of that only what is named here is read.
    directories, patterns = set(), {"index.rst"}
    for name in names:
        directory = next(parent for parent in (linux / name).parents
                         if (parent / "index.rst").exists())
        directories.add(os.path.relpath(directory, linux / "Documentation"))
        patterns.add(os.path.relpath(linux / name, directory))
    shutil.rmtree(out, ignore_errors=True)      # Sphinx does not repeat its warnings
    log = out / "check.log"
    build.make("documents", next(iter(ARCHES)), log, "-C", linux, f"O={out}",
               f"SPHINXDIRS={' '.join(sorted(directories))}",
               f"SPHINXOPTS=-q -D include_patterns={','.join(sorted(patterns))}", "htmldocs")
    html = out / "Documentation/output"
    return our_warnings(log.read_text(), linux) + [
        f"{name} was not built" for name in sorted(names & overlay)
        if not (html / Path(name).relative_to("Documentation").with_suffix(".html")).exists()]
