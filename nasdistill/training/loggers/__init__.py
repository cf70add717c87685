"""Loggers: where the numbers and pictures of a stage go while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch


class Log:
    """What a logger opens for a stage. Steps do not decrease; what a subclass does not define, it leaves out."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name."""

    def images(self, tag: str, pixels: torch.Tensor, step: int) -> None:
        """Images, uint8, [N, C, H, W], on the CPU."""

    def histogram(self, tag: str, counts: Sequence[int], step: int) -> None:
        """How often each of the numbers 0, 1, ..., e.g. of classes, was seen."""

    def close(self) -> None:
        """The stage is done or stops."""


class Logger(Component):
    """Base of all loggers. One that raises is left out from there on, with a warning."""

    def open(self, place: Path, step: int) -> Log:
        """Begin the log of a stage, or go on with it after a stop.

        Args:
            place: a path of the stage's own in `tensorboard/` of the run, for a folder or for a file of that name with
                a suffix. Nothing there is made yet.
            step: of what is told first; what an earlier log holds from it on is told again, and must be replaced.
        """
        raise NotImplementedError(type(self).__name__)


LOGGERS: Registry[Logger] = Registry("loggers", Logger, "nasdistill.training.loggers")
