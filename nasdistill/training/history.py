"""The curves of a training, and what follows from them: the selected epoch and when to stop early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasdistill.training.metrics import Metrics
from nasdistill.training.settings import Keep, Select

VALIDATION = "validation/accuracy"
VALIDATION_BALANCED = "validation/balanced accuracy"
VALIDATION_LOSS = "validation/loss"
TEST = "test/accuracy"
SCORE_OF: dict[Select, str] = {"accuracy": VALIDATION, "balanced-accuracy": VALIDATION_BALANCED, "loss": VALIDATION}
"""The curve of the score by what selects; where that is the loss, the score is the accuracy that comes with it."""


@dataclass
class History:
    """Values by name and epoch; the validation images alone select: by a score, by loss if told or if there is none.

    Attributes:
        curves: name to [[epochs done, value], ...].
        select: the highest score of this kind selects, and of equal ones that with the lowest loss; or that loss alone.
        after: epochs at first of which none can be selected.
    """

    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    select: Select = "accuracy"
    after: int = 0

    def add(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self.curves.setdefault(name, []).append([epoch, value])

    @property
    def selected(self) -> int:
        """Epochs done at the best evaluation; small sets have ties of scores, and the lower loss decides them.

        0 as long as none can be selected.
        """
        evaluations = self._evaluations()
        return evaluations[self._selected_index()] if evaluations else 0

    def stale(self, patience: int | None) -> bool:
        """Whether the last `patience` evaluations were no better than one before."""
        evaluations = len(self._evaluations())
        return patience is not None and evaluations > 0 and evaluations - 1 - self._selected_index() >= patience

    def accuracy(self, keep: Keep) -> dict[str, float]:
        """The test accuracy in percent: of the last evaluation, the best one, and the selected one; if scored.

        The selected one is the network's own, by which it is compared, so that there is none where the last weights are
        kept.
        """
        test = [value for _, value in self._selectable(TEST)]
        if not test:
            return {}
        found = {"last": test[-1], "best": max(test)}
        return found if keep == "last" else {**found, "selected": test[self._selected_index()]}

    def validation(self, keep: Keep) -> dict[str, Any]:
        """Of the selected or the last evaluation on the validation images, see `validation_scores`."""
        index = self._selected_index() if keep == "selected" else -1
        found = {name: self._selectable(name) for name in (SCORE_OF[self.select], VALIDATION_LOSS)}
        return validation_scores({name: points[index][1] for name, points in found.items() if points}, self.select)

    def plain(self) -> dict[str, Any]:
        """The content of `history.json`."""
        return {"curves": self.curves, "selected_epoch": self.selected}

    def _selectable(self, curve: str) -> list[list[float]]:
        return [point for point in self.curves.get(curve, []) if point[0] > self.after]

    def _evaluations(self) -> list[int]:
        return [int(epoch) for epoch, _ in self._selectable(VALIDATION_LOSS)]

    def _selected_index(self) -> int:
        losses = [value for _, value in self._selectable(VALIDATION_LOSS)]
        scored = self._selectable(SCORE_OF[self.select]) if self.select != "loss" else []
        found = [value for _, value in scored] or [0.0] * len(losses)
        return min(range(len(losses)), key=lambda index: (-found[index], losses[index]))


def validation_scores(values: Mapping[str, float], select: Select) -> dict[str, Any]:
    """What an artifact tells of an evaluation's values.

    That is `loss`, `score`, see `SCORE_OF`, and `of`, of what the score is where it is not the accuracy: such scores
    are not to be compared with others.
    """
    named = {"score": SCORE_OF[select], "loss": VALIDATION_LOSS}
    of = {"of": "balanced accuracy"} if select == "balanced-accuracy" else {}
    return {name: values[curve] for name, curve in named.items() if curve in values} | of


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
