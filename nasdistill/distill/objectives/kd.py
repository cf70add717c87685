"""Knowledge distillation: the student matches the teacher's softened probabilities."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs

Reduction = Literal["batchmean", "mean"]


def softened_divergence(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, reduction: Reduction
) -> torch.Tensor:
    """T^2 * KL(softmax(t/T) || softmax(s/T)).

    Hinton et al. write T^2 * CE(softmax(t/T), softmax(s/T)); the two differ by T^2 times the entropy of the teacher's
    probabilities, which no student can change, so their gradients are equal and this one is 0 where the student agrees.
    T^2 keeps the gradient's size independent of T: for large T it tends to (s - t) / classes, for logits of mean zero.

    Args:
        student: logits [N, C].
        teacher: logits [N, C].
        temperature: T > 0.
        reduction: `batchmean` divides the sum by N, `mean` by N*C (C times less: a weight published for one of them
            must be scaled for the other).

    Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network (2015), section 2.
    """
    # The sum, divided here: torch has announced that its "mean" will come to mean "batchmean".
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="sum",
        log_target=True,
    )
    return temperature**2 * divergence / (len(student) if reduction == "batchmean" else student.numel())


@OBJECTIVES.register("kd")
class KnowledgeDistillation(Objective):
    """T^2 * KL(teacher || student) of probabilities softened by T; the label term keeps 1 - weight, as published."""

    source = "Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network (2015), section 2"
    replaces_labels = True

    weight: float = Field(0.9, ge=0, description="the a of (1-a)*CE(labels) + a*T^2*KL(teacher || student)")
    temperature: float = Field(4.0, gt=0, description="T, which softens the probabilities of both networks")
    reduction: Reduction = Field(
        "batchmean", description="batchmean divides the sum by the batch size, mean also by the number of classes"
    )

    def loss(self, student: Outputs, teacher: Outputs, labels: torch.Tensor) -> torch.Tensor:
        return softened_divergence(student.logits, teacher.logits, self.temperature, self.reduction)
