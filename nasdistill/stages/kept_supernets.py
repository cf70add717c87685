"""Supernets that a search keeps beside the network that it found, and that more epochs go on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nasdistill.artifacts import SUPERNET
from nasdistill.errors import SpecError
from nasdistill.storage import load_state, save_state


def keep(folder: Path, search: Mapping[str, Any], epochs: int, state: Mapping[str, Any] | None) -> None:
    """Write the last checkpoint of a search.

    Args:
        search: what must be the same in one that goes on, as plain data.
        epochs: that it was to have.
    """
    save_state(folder / SUPERNET, {"search": search, "epochs": epochs, "state": state})


def state_to_go_on_from(folder: Path, search: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """The last checkpoint of the search in `folder`, for one that is to have more epochs.

    Raises:
        SpecError: it kept none, has nothing to go on with, or was another search in more than its epochs.
        DamagedFile: what it kept is not what was written.
    """
    if not (folder / SUPERNET).is_file():
        problem = f"{folder} has no supernet; one that was searched with keep_supernet (--keep-supernet) can go on"
        raise SpecError(problem, ("resume_from",))
    kept = load_state(folder / SUPERNET)
    if difference := next(_differences(search, kept["search"]), None):
        key, here, there = difference
        problem = f"a search goes on as it began, but its {key} was {there!r} and is {here!r} here"
        raise SpecError(problem, ("resume_from",))
    state: dict[str, Any] = kept["state"]
    done = state["course"]["epoch"]
    if done < kept["epochs"]:
        problem = f"it stopped after {done} of its {kept['epochs']} epochs by its own rule, so that nothing goes on"
        raise SpecError(problem, ("resume_from",))
    if epochs <= done:
        raise SpecError(f"epochs done so far: {done}; to go on there must be more in all, got {epochs}", ("epochs",))
    return state


def _differences(one: Any, other: Any, *path: str) -> Iterator[tuple[str, Any, Any]]:
    """Where plain data differ: the dotted key, and both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            yield from _differences(one.get(name), other.get(name), *path, name)
    elif one != other:
        yield ".".join(path), one, other
