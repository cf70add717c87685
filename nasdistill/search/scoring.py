"""A trial's training: scored after each epoch on images that teach nothing, and ended where it falls behind."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from nasdistill.training.batches import Batches
from nasdistill.training.history import SCORE_OF, VALIDATION, VALIDATION_BALANCED, VALIDATION_LOSS
from nasdistill.training.metrics import evaluate
from nasdistill.training.settings import Score
from nasdistill.training.tasks import Supervised

if TYPE_CHECKING:
    from nasdistill.training.engine import Engine


def medians_of_means(curves: Sequence[Sequence[float]], epochs: int) -> list[float | None]:
    """For each epoch e the median of the curves' means over the epochs up to e; None where no curve is so long.

    Of an even number of means it is the lower middle one.
    Source: Golovin et al. 2017, Google Vizier: A Service for Black-Box Optimization, section 3.2.2, with the running
    mean of each curve.
    """
    medians: list[float | None] = []
    for epoch in range(1, epochs + 1):
        means = [sum(curve[:epoch]) / epoch for curve in curves if len(curve) >= epoch]
        medians.append(statistics.median_low(means) if means else None)
    return medians


class ScoredTraining(Supervised):
    """Cross-entropy with the labels; ends after an epoch whose limit the best score so far does not reach.

    Args:
        select: which score counts; `curve` is its name.
        limits: for each epoch, None where it has none.
    """

    best: torch.Tensor
    behind: torch.Tensor

    def __init__(self, network: nn.Module, select: Score, limits: Sequence[float | None]) -> None:
        super().__init__(network)
        self.curve = SCORE_OF[select]
        self._limits = limits
        self._epoch = 0
        # Buffers, as a loop that is taken up again loads the task's state.
        self.register_buffer("best", torch.zeros(()))
        self.register_buffer("behind", torch.tensor(False))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        super().begin_epoch(epoch, epochs)
        self._epoch = epoch

    def stop_reason(self) -> str | None:
        return "below the median of the trials before" if bool(self.behind) else None

    def score(self, network: nn.Module, validation: Batches, test: Batches, engine: Engine) -> dict[str, float]:
        """On `validation` alone."""
        found = evaluate(network, validation, engine)
        curves = {VALIDATION: found.accuracy, VALIDATION_BALANCED: found.balanced_accuracy, VALIDATION_LOSS: found.loss}
        self.best.clamp_(min=curves[self.curve])
        limit = self._limits[self._epoch]
        self.behind.fill_(limit is not None and bool(self.best < limit))
        return curves
