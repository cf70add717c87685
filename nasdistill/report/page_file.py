"""The file of a page, which ends with its SHA-256: wherever it lies, it is replaced only as it was written."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from nasdistill.artifacts import refuse_inside
from nasdistill.errors import UserError
from nasdistill.storage import write_text

REPORT = "report.html"
_SEAL = b"<!-- SHA-256 of what stands above: "
_OF_EARLIER_VERSIONS = b'<p class="kicker">nasdistill report</p>'


def write_page(path: Path, page: str) -> None:
    """Write a page.

    Raises:
        UserError: something else stands at `path`, or a page that was changed.
    """
    check_page(path)
    write_text(path.resolve(), f"{page}{_SEAL.decode()}{sha256(page.encode()).hexdigest()} -->\n")


def check_page(path: Path) -> None:
    """Make sure that a page may be written.

    Raises:
        UserError: what stands at `path` would be lost, or it lies in a finished artifact.
    """
    refuse_inside(path.parent)
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file for the page")
    if os.path.lexists(path) and not is_page(path):
        raise UserError(f"{path} is no page as nasdistill wrote it, and stays; name another file with --out")


def is_page(path: Path) -> bool:
    """Whether a file is a page as it was written; those of earlier versions have no SHA-256."""
    if not path.is_file():
        return False
    page, seal, rest = path.read_bytes().rpartition(_SEAL)
    return rest == f"{sha256(page).hexdigest()} -->\n".encode() if seal else _OF_EARLIER_VERSIONS in rest
