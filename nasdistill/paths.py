"""Where paths start: those that a recipe's file holds at its folder, all others at the working directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasdistill.errors import SpecError


class Written(str):
    """Text of a recipe.

    Attributes:
        start: the folder where it starts if it is a path.
        place: where it leads, once it was taken for a path.
    """

    start: Path
    place: Path | None = None


def starting_at(start: Path, data: Any) -> Any:
    """A copy of plain data whose texts start at `start`; those that start somewhere already stay."""

    def write(text: str) -> Written:
        if not isinstance(text, Written):
            text = Written(text)
            text.start = start
        return text

    return _each_text(data, str, write)


def located(text: str) -> Path:
    """Where a path leads; one that no recipe holds starts at the working directory. In a recipe `~` is the user's home.

    Raises:
        SpecError: it leads nowhere, but would from the working directory.
    """
    if not isinstance(text, Written):
        return Path(text)
    text.place = text.start / os.path.expanduser(text)  # no shell reads a recipe
    if not os.path.exists(text.place) and os.path.exists(text):
        raise SpecError(f"there is no {text.place}; it is there from the working directory: {Path(text).absolute()}")
    return text.place


def all_located(data: Any) -> Any:
    """Plain data in which each text of a recipe is taken for a path."""
    return _each_text(data, Written, located)


def settled(data: Any) -> Any:
    """Plain data in which all that was taken for a path says where it leads, wherever it is read."""
    return _each_text(data, Written, lambda text: str(text.place or text))


def _each_text(data: Any, kind: type[Any], change: Callable[[Any], Any]) -> Any:
    if isinstance(data, Mapping):
        return {key: _each_text(value, kind, change) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_each_text(value, kind, change) for value in data]
    return change(data) if isinstance(data, kind) else data


def user_cache() -> Path:
    """The user's cache folder of this program; a new temporary one where it cannot be written."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()) / "nasdistill"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # nobody knows the user's home, or it is read-only
        pass
    return Path(tempfile.mkdtemp(prefix="nasdistill-"))
