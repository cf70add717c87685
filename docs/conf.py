"""Sphinx: MyST pages with the Furo theme; the reference is written from the registry before the pages are read."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from reference import write_reference  # noqa: E402  (found through the line above)

import nasdistill  # noqa: E402

project = "nasdistill"
copyright = "the nasdistill authors"
version = release = nasdistill.__version__

extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "tutorial/plugins/*.md"]
html_theme = "furo"
html_title = f"nasdistill {version}"

write_reference(HERE / "reference" / "generated")
