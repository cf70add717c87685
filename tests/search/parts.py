"""What tests of searches share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasdistill.registry import build
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine, EngineSettings


def engine(precision: str = "32") -> Engine:
    return Engine(build(EngineSettings, {"accelerator": "cpu", "precision": precision}))


class Killed(BaseException):
    """What a process that is killed does not live to see."""


class Every(Checkpoints):
    """Saves each step; dies after so many."""

    def __init__(self, folder: Path, killed_after: int | None = None) -> None:
        super().__init__(folder)
        self.left = killed_after

    def step(self, number: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        self.save(number, capture())
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Killed
