"""Collapse: a student or a teacher that answers one class for every pseudo-image, seen when it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from nasdistill.training.engine import Engine

AGREEMENT = "answers/agreement"


def answers_of(logits: torch.Tensor) -> torch.Tensor:
    """How often each class is the likeliest: logits [N, classes] to counts, int64, [classes]."""
    classes = logits.shape[1]
    return torch.zeros(classes, dtype=torch.int64, device=logits.device).scatter_add_(
        0, logits.argmax(dim=1), torch.ones(len(logits), dtype=torch.int64, device=logits.device)
    )


def spread(counts: torch.Tensor) -> torch.Tensor:
    """The entropy of counts, [classes], as a fraction of its largest value log(classes): 0 one class, 1 all alike."""
    shares = counts / counts.sum()
    return -torch.xlogy(shares, shares).sum() / math.log(len(counts))


@dataclass(frozen=True)
class Window:
    """What was answered over some pseudo-batches.

    Attributes:
        student_spread, teacher_spread: the mean over pseudo-batches of the entropy of their answers, see `spread`.
        agreement: share of pseudo-images on which both answer the same, in percent.
    """

    student_spread: float
    teacher_spread: float
    agreement: float

    @property
    def figures(self) -> dict[str, float]:
        """By the names of their curves."""
        return {
            "answers/student spread": self.student_spread,
            "answers/teacher spread": self.teacher_spread,
            AGREEMENT: self.agreement,
        }

    def collapsed(self, below: float) -> str | None:
        """In words, whose answers have collapsed; None where nobody's have."""
        narrow = [
            f"the {who} (entropy {value:.2f} of the largest possible)"
            for who, value in (("student", self.student_spread), ("teacher", self.teacher_spread))
            if value < below
        ]
        return (
            f"{' and '.join(narrow)} {'gives' if len(narrow) == 1 else 'give'} nearly one class for all"
            if narrow
            else None
        )


class Watch:
    """Collects the answers of student and teacher, on the device and without waiting for it.

    What is read from it is that of all processes together, so that all of them decide alike.
    """

    def __init__(self, classes: int, engine: Engine) -> None:
        self._engine = engine
        self._histograms = torch.zeros(2, classes, dtype=torch.int64, device=engine.device)
        self._sums = torch.zeros(4, device=engine.device)  # both spreads, agreements, pseudo-batches

    def add(self, student: torch.Tensor, teacher: torch.Tensor) -> None:
        """The logits, [N, classes], of one pseudo-batch."""
        counts = torch.stack([answers_of(student), answers_of(teacher)])
        agreement = (student.argmax(dim=1) == teacher.argmax(dim=1)).float().mean()
        self._sums += torch.stack([spread(counts[0]), spread(counts[1]), agreement, torch.ones_like(agreement)])
        self._histograms += counts

    def window(self) -> Window:
        """What was answered since the last window; at least one pseudo-batch."""
        student, teacher, agreement, batches = self._taken(self._sums).tolist()
        return Window(student / batches, teacher / batches, 100 * agreement / batches)

    def take_histograms(self) -> torch.Tensor:
        """How often student and teacher answered each class since the last call: int64, [2, classes]."""
        return self._taken(self._histograms)

    def _taken(self, sums: torch.Tensor) -> torch.Tensor:
        """The sums of all processes; they start anew."""
        taken = self._engine.fabric.all_reduce(sums.clone(), reduce_op="sum")
        sums.zero_()
        assert isinstance(taken, torch.Tensor)
        return taken

    def state(self) -> dict[str, Any]:
        return {"histograms": self._histograms, "sums": self._sums}

    def load(self, state: dict[str, Any]) -> None:
        self._histograms.copy_(state["histograms"])
        self._sums.copy_(state["sums"])
