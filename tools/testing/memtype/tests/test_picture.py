# SPDX-License-Identifier: GPL-2.0-only
"""A picture that is not drawn from its source is found."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import picture

GRAPH = "[ host ] -- type --> [ layer ]\n"
README = f"before\n{picture.MARK}\n\n    old\n\n{picture.MARK}\nafter\n"


class Picture(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.top = Path(scratch.name)
        self.source = self.top / "some.graph"
        self.source.write_text(GRAPH)
        self.readme = self.top / "README.md"
        self.readme.write_text(README)
        for name, value in (("REPO", self.top), ("SOURCE", self.source)):
            patch = mock.patch.object(picture, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def test_drawn(self) -> None:
        self.assertEqual(picture.stale(), ["some.svg is not as some.graph is: make picture",
                                           "README.md is not as some.graph is: make picture"])
        picture.write()
        self.assertEqual(picture.stale(), [])
        text = self.readme.read_text()
        self.assertIn("    │ host │ ──────> │ layer │\n", text)
        self.assertTrue(text.startswith("before\n") and text.endswith("\nafter\n"))
        self.assertNotIn("old", text)
        self.assertIn(">layer</text>", self.source.with_suffix(".svg").read_text())

    def test_changed(self) -> None:
        picture.write()
        self.source.write_text(GRAPH.replace("type", "kind"))
        self.assertEqual(len(picture.stale()), 2)


if __name__ == "__main__":
    unittest.main()
