"""Losses on fixed logits, for the tests of objectives."""

from __future__ import annotations

import torch

from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.training.batches import Batch

DOUBLE = torch.float64


def logits(seed: int, images: int = 6, classes: int = 10) -> torch.Tensor:
    return 3 * torch.randn(images, classes, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def loss_of(
    spec: object, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor | None = None
) -> torch.Tensor:
    """The unweighted loss of an objective on logits; every label is class 0 unless labels are given."""
    objective = OBJECTIVES.parse(spec)
    given = torch.zeros(len(student), dtype=torch.int64) if labels is None else labels
    batch = Batch(torch.empty(0), given, torch.arange(len(student)))
    loss: torch.Tensor = objective.loss(Outputs(student, {}), Outputs(teacher, {}), batch)
    return loss
