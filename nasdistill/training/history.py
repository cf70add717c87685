"""The curves of a training, and what follows from them: the selected epoch and when to stop early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nasdistill.training.metrics import Metrics

VALIDATION = "validation/accuracy"
VALIDATION_BALANCED = "validation/balanced accuracy"
VALIDATION_LOSS = "validation/loss"
TEST = "test/accuracy"
SELECTED_BY = {"accuracy": VALIDATION, "balanced-accuracy": VALIDATION_BALANCED}
"""The curve that selects, by the name of the choice; see `nasdistill.training.settings.Select`."""


@dataclass
class History:
    """Values by name and epoch; the validation images alone select: by a score, by loss where there is none.

    Attributes:
        curves: name to [[epochs done, value], ...].
        score: name of the curve whose highest value selects.
    """

    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    score: str = VALIDATION

    def add(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self.curves.setdefault(name, []).append([epoch, value])

    @property
    def selected(self) -> int:
        """Epochs done at the best validation score; small sets have ties, and the lower loss decides them."""
        return self._evaluations()[self._selected_index()]

    def stale(self, patience: int | None) -> bool:
        """Whether the last `patience` evaluations were no better than one before."""
        evaluations = len(self._evaluations())
        return patience is not None and evaluations > 0 and evaluations - 1 - self._selected_index() >= patience

    def accuracy(self) -> dict[str, float]:
        """The test accuracy in percent: of the last evaluation, the best one, and the selected one; if scored."""
        test = [value for _, value in self.curves.get(TEST, [])]
        if not test:
            return {}
        return {"last": test[-1], "best": max(test), "selected": test[self._selected_index()]}

    def validation(self, keep: Literal["selected", "last"]) -> dict[str, float]:
        """Of the selected or the last evaluation: `loss`, and `score`, which selects; on the validation images."""
        index = self._selected_index() if keep == "selected" else -1
        named = {"score": self.score, "loss": VALIDATION_LOSS}
        return {name: self.curves[curve][index][1] for name, curve in named.items() if curve in self.curves}

    def plain(self) -> dict[str, Any]:
        """The content of `history.json`."""
        return {"curves": self.curves, "selected_epoch": self.selected}

    def _evaluations(self) -> list[int]:
        return [int(epoch) for epoch, _ in self.curves.get(VALIDATION_LOSS, [])]

    def _selected_index(self) -> int:
        losses = [value for _, value in self.curves[VALIDATION_LOSS]]
        found = [value for _, value in self.curves.get(self.score, [])] or [0.0] * len(losses)
        return min(range(len(losses)), key=lambda index: (-found[index], losses[index]))


def scores(validation: Metrics, test: Metrics) -> dict[str, float]:
    """The curves that an evaluation adds to."""
    return {
        VALIDATION: validation.accuracy,
        VALIDATION_BALANCED: validation.balanced_accuracy,
        VALIDATION_LOSS: validation.loss,
        TEST: test.accuracy,
        "test/balanced accuracy": test.balanced_accuracy,
        "test/loss": test.loss,
    }
