"""Loggers: where the numbers and pictures of a stage go while it runs, and in the end what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch

    from nasdistill.artifacts import Artifact


class Log:
    """What a logger opens for a stage. Steps do not decrease; what a subclass does not define, it leaves out."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name."""

    def images(self, tag: str, pixels: torch.Tensor, step: int) -> None:
        """Images, uint8, [N, C, H, W], on the CPU."""

    def histogram(self, tag: str, counts: Sequence[int], step: int) -> None:
        """How often each of the numbers 0, 1, ..., e.g. of classes, was seen."""

    def artifact(self, artifact: Artifact, step: int) -> None:
        """The stage is done: the folder that it wrote, with hashes, metrics and cost in its manifest."""

    def close(self) -> None:
        """The stage is done or stops."""


class Logger(Component):
    """Base of all loggers. One that raises is left out from there on, with a warning."""

    logs_all_stages: ClassVar[bool] = False
    """Whether stages that tell no numbers have a log too, for their artifact."""

    def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
        """Begin the log of a stage, or go on with it after a stop.

        Args:
            place: a path of the stage's own in `tensorboard/` of the run, for a folder or for a file of that name with
                a suffix. Nothing there is made yet.
            step: of what is told first, or 0 where an earlier log is of another key; what that holds from it on must be
                replaced.
            config: plain data: `recipe`, `stage`, `uses`, `seed`, `options`, `data`, `engine`, `commit`, and `key`,
                which differs where a result may. Of one of several trainings in a stage, `part` too. Empty in
                notebooks.
        """
        raise NotImplementedError(type(self).__name__)


LOGGERS: Registry[Logger] = Registry("loggers", Logger, "nasdistill.training.loggers")
