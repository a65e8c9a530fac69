# SPDX-License-Identifier: GPL-2.0-only
"""Kernel files compiled as programs: their headers are empty files, where a test has no others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from settings import TREES

DMA_CACHE = "include/linux/dma_cache.h"


def headers(top: Path, sources: Iterable[str], but: Iterable[str] = ()) -> None:
    """Puts empty files into @top for all that @sources of the kernel include, except @but.

    linux/dma_cache.h is the kernel's own.
    """
    kernel = TREES["patched"]
    for source in (DMA_CACHE, *sources):
        for name in re.findall(r"^#include <(.*)>", (kernel / source).read_text(), re.M):
            if name not in but:
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).touch()
    (top / "linux/dma_cache.h").write_text((kernel / DMA_CACHE).read_text())
