"""What an exported network is worth in the runtime that it is for: right answers, and the time of one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from nasdistill.data.base import Data
from nasdistill.data.loaders import batches_in_order, evaluation_batches
from nasdistill.data.seeds import generator_for
from nasdistill.training.metrics import Metrics, logits_of, score
from nasdistill.training.resizing import Resizing

if TYPE_CHECKING:
    from nasdistill.models.exporters import Runtime
    from nasdistill.training.engine import Engine


@dataclass(frozen=True)
class Answered:
    """What an exported network scores on the test images, and to how many percent it answers as the network does."""

    score: Metrics
    agreement: float


class Examination:
    """The test images, and what a network answers to them, beside which its exports are seen.

    Attributes:
        score: of the network itself.
    """

    def __init__(self, data: Data, network: nn.Module, engine: Engine) -> None:
        self._engine = engine
        self._batches = evaluation_batches(data.test, data, engine)
        placed = engine.place(copy.deepcopy(network))
        self._logits, truth = logits_of(placed, self._batches, engine, full_precision=True)
        self.score = score(self._logits, truth)

    def of(self, runtime: Runtime, size: tuple[int, int]) -> Answered:
        """What an exported network answers that reads images of this height and width."""
        logits, truth = logits_of(_InRuntime(runtime, size), self._batches, self._engine, full_precision=True)
        agreed = (logits.argmax(1) == self._logits.argmax(1)).double().mean()
        return Answered(score(logits, truth), 100 * float(agreed))


class _InRuntime(nn.Module):
    """An exported network as a module, for images of any size on any device."""

    def __init__(self, runtime: Runtime, size: tuple[int, int]) -> None:
        super().__init__()
        self._runtimes = (runtime,)  # no part of this module: a program of torch.export knows no modes
        self._resizing = Resizing(size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        (runtime,) = self._runtimes
        return runtime(self._resizing.resized(images.cpu()).contiguous()).to(images.device)


def calibration_images(data: Data, size: tuple[int, int], count: int, seed: int, engine: Engine) -> torch.Tensor:
    """Training images drawn by the seed, without augmentation: normalised, [N, C, *size], on the CPU.

    Args:
        count: how many; all, where there are no more.
    """
    drawn = torch.randperm(len(data.train), generator=generator_for(seed, "calibration"))[:count]
    batches = batches_in_order(data.train.subset(drawn), data.normalisation, engine)
    resizing = Resizing(size)
    return torch.cat([resizing.resized(batch.images.cpu()) for batch in batches.epoch(0)]).contiguous()
