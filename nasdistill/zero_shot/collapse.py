"""Collapse: a student or a teacher that answers one class for every pseudo-image, seen when it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from nasdistill.training.processes import all_reduce_sum

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


class Watch(nn.Module):
    """Collects the answers of student and teacher, on the device and without waiting for it.

    A pseudo-batch is that of all processes together, so that all of them know and decide alike.
    """

    _histograms: torch.Tensor
    _sums: torch.Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("_histograms", torch.zeros(2, classes, dtype=torch.int64))
        self.register_buffer("_sums", torch.zeros(4))  # both spreads, agreements, pseudo-batches

    def add(self, student: torch.Tensor, teacher: torch.Tensor) -> None:
        """The logits, [N, classes], of this process's share of one pseudo-batch."""
        same = (student.argmax(dim=1) == teacher.argmax(dim=1)).sum()
        counts = all_reduce_sum(torch.cat([answers_of(student), answers_of(teacher), same[None]]))
        ours, theirs = counts[:-1].view(self._histograms.shape)
        agreement = counts[-1] / ours.sum()
        self._sums += torch.stack([spread(ours), spread(theirs), agreement, torch.ones_like(agreement)])
        self._histograms += torch.stack([ours, theirs])

    def window(self) -> Window:
        """What was answered since the last window; at least one pseudo-batch."""
        student, teacher, agreement, batches = self._sums.tolist()
        self._sums.zero_()
        return Window(student / batches, teacher / batches, 100 * agreement / batches)

    def take_histograms(self) -> torch.Tensor:
        """How often student and teacher answered each class since the last call: int64, [2, classes]."""
        taken = self._histograms.clone()
        self._histograms.zero_()
        return taken
