"""An objective: agree with the teacher on the order and spacing of the classes, whatever their scale."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs
from nasdistill.training.batches import Batch


def correlation_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - the mean over the batch of Pearson's correlation between the rows of two matrices [N, C]."""
    student = student - student.mean(dim=1, keepdim=True)
    teacher = teacher - teacher.mean(dim=1, keepdim=True)
    return 1 - functional.cosine_similarity(student, teacher, dim=1).mean()


@OBJECTIVES.register("correlation")
class Correlation(Objective):
    """1 - Pearson's correlation of the networks' softened probabilities, image by image."""

    source = "Huang et al., Knowledge Distillation from A Stronger Teacher (2022), its inter-class relation"

    temperature: float = Field(1.0, gt=0, description="what the logits are divided by before the softmax")

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        return correlation_distance(
            functional.softmax(student.logits / self.temperature, dim=1),
            functional.softmax(teacher.logits / self.temperature, dim=1),
        )
