"""YAML that is installed with the package: `search_spaces/` and `recipes/`, in a checkout or inside the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def search_spaces() -> Path:
    """The folder of the built-in search spaces."""
    return _folder("search_spaces", "search_spaces")


def recipes() -> Path:
    """The folder of the built-in recipes."""
    return _folder("library", "recipes")


def _folder(installed: str, in_checkout: str) -> Path:
    folder = _PACKAGE / installed
    return folder if folder.is_dir() else _PACKAGE.parent / in_checkout
