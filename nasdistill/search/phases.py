"""Loops one after the other in one search, each with checkpoints of its own among those of the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nasdistill.training.checkpoints import Checkpoints, PartOfCheckpoints

T = TypeVar("T")

APART = 10**10
"""Numbers of checkpoints that a phase has; file names sort by twelve digits."""


class Phases:
    """What the loops that have ended came to is in every later checkpoint, so that none runs twice."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        saved = checkpoints.load() or {"done": [], "running": None}
        self._done, self._running = saved["done"], saved["running"]
        self._begun = 0

    def run(self, loop: Callable[[Checkpoints], T]) -> T:
        """The result of a loop, or what it was before a kill: plain data and tensors."""
        number, self._begun = self._begun, self._begun + 1
        if number == len(self._done):
            part = PartOfCheckpoints(self._checkpoints, number * APART, self._running, self._state)
            self._done.append(loop(part))
            self._running = None
        found: T = self._done[number]
        return found

    def _state(self, running: Mapping[str, Any]) -> dict[str, Any]:
        return {"done": self._done, "running": running}
