"""Transformed teacher matching: the teacher's probabilities to a power, and the student's as they are."""

from __future__ import annotations

import torch
from pydantic import Field

from nasdistill.distill.logits import LogitObjective, softened_divergence
from nasdistill.distill.objectives import OBJECTIVES


def power_sum(logits: torch.Tensor, gamma: float) -> torch.Tensor:
    """U = the sum over the classes of p^gamma, of each image's probabilities p: logits [N, C] to [N].

    For gamma < 1 it is 1 where one class has all, and C^(1 - gamma) where all have the same.

    Source: Zheng, Yang, Knowledge Distillation Based on Transformed Teacher Matching (2024), section 4.
    """
    return (gamma * logits.log_softmax(dim=1)).logsumexp(dim=1).exp()


@OBJECTIVES.register("ttm")
class TransformedTeacherMatching(LogitObjective):
    """KL(p^gamma / U || student), mean over the batch, added to the whole label term; p is what the teacher says.

    U, the sum of p^gamma over the classes, makes the powers probabilities: those of a temperature of 1/gamma. The
    student has no temperature, so that it cannot match the softened teacher by its logits' relations alone, and is kept
    from being too sure. No factor of T^2. Weight and gamma are those of the released command for VGG13 and VGG8 on
    CIFAR-100.
    """

    source = (
        "Zheng, Yang, Knowledge Distillation Based on Transformed Teacher Matching (2024), section 3, and its released "
        "code"
    )

    weight: float = Field(45.0, ge=0, description="beta, beside 1 for the label term")
    gamma: float = Field(0.1, gt=0, description="power of the teacher's probabilities; 1/gamma is its temperature")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return softened_divergence(student, self.gamma * teacher)


@OBJECTIVES.register("wttm")
class WeightedTransformedTeacherMatching(TransformedTeacherMatching):
    """U * KL(p^gamma / U || student), mean over the batch: `ttm`, where images count more the less the teacher is sure.

    U, the sum of p^gamma over the classes, is 1 where the teacher is sure, and larger the more alike its probabilities
    are. Weight and gamma are those of the released command beside `crd`, for VGG13 and VGG8 on CIFAR-100.
    """

    source = (
        "Zheng, Yang, Knowledge Distillation Based on Transformed Teacher Matching (2024), section 4, and its released "
        "code"
    )

    weight: float = Field(4.0, ge=0, description="beta, beside 1 for the label term")
    gamma: float = Field(0.2, gt=0, description="power of the teacher's probabilities; 1/gamma is its temperature")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return power_sum(teacher, self.gamma) * super().distance(student, teacher, labels)
