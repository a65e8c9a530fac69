# SPDX-License-Identifier: GPL-2.0-only
"""`make picture`: how the parts work together, drawn from one source.

It is an SVG file in the kernel's documents, and text in README.md, for terminals.
"""

from __future__ import annotations

import re
from pathlib import Path

import settings
from settings import REPO, output

SOURCE = REPO / "Documentation/virt/kvm/memtype-overview.graph"
# Before and after the picture in README.md.
MARK = "<!-- drawn by make picture -->"


def draw(form: str) -> str:
    text = output(["graph-easy", f"--as={form}", SOURCE])
    # When it was drawn would be a difference.
    return re.sub(r"^<!-- Generated at .*?^-->\n\n", "", text, flags=re.M | re.S)


def drawn() -> dict[Path, str]:
    """The files as they should be."""
    readme = REPO / "README.md"
    parts = readme.read_text().split(MARK)
    if len(parts) != 3:
        settings.fail(f"README.md must have {MARK} twice")
    before, _, after = parts
    text = "\n".join(f"    {line}".rstrip() for line in draw("boxart").splitlines())
    return {SOURCE.with_suffix(".svg"): draw("svg"),
            readme: f"{before}{MARK}\n\n{text}\n\n{MARK}{after}"}


def stale() -> list[str]:
    """Which files are not what the source would be drawn to."""
    return [f"{path.relative_to(REPO)} is not as {SOURCE.name} is: make picture"
            for path, text in drawn().items() if not path.exists() or path.read_text() != text]


def write() -> None:
    """Draw the picture again."""
    for path, text in drawn().items():
        path.write_text(text)


if __name__ == "__main__":
    settings.main({"write": write}, __doc__)
