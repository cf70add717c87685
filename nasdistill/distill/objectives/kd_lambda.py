"""Knowledge distillation beside the whole label term, without the factor T^2."""

from __future__ import annotations

import torch
from pydantic import Field

from nasdistill.distill.logits import LogitObjective, softened_divergence
from nasdistill.distill.objectives import OBJECTIVES


@OBJECTIVES.register("kd-lambda")
class KnowledgeDistillationLambda(LogitObjective):
    """KL(teacher || student) of probabilities softened by T, mean over the batch, added to the whole label term.

    The report writes the cross-entropy CE(teacher, student); the divergence has its gradients, see
    `softened_divergence`. Lambda here is worth a weight of lambda/T^2 in `kd`.
    """

    source = "Mandal and Mandan, Smaller Networks (CS698O): CE(labels) + lambda*CE(teacher, student)"

    weight: float = Field(1.0, ge=0, description="lambda; the label term keeps its weight of 1")
    temperature: float = Field(4.0, gt=0, description="T, which softens the probabilities of both networks")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return softened_divergence(student, teacher, self.temperature)
