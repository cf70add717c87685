"""Knowledge distillation with the divergence's mean over batch and classes, for constants that were published so."""

from __future__ import annotations

import torch
from pydantic import Field

from nasdistill.distill.logits import LogitObjective, softened_divergence
from nasdistill.distill.objectives import OBJECTIVES


@OBJECTIVES.register("kd-mean")
class KnowledgeDistillationMean(LogitObjective):
    """`kd` divided by the number of classes: torch's `kl_div` with its default reduction, as much released code has it.

    With 10 classes a weight of 2500 here is 250 of `kd`.
    """

    source = "Zagoruyko, Komodakis, Paying More Attention to Attention (2017), its released code"
    replaces_labels = True

    weight: float = Field(0.9, ge=0, description="the a of (1-a)*CE(labels) + a*T^2*KL(teacher || student)/classes")
    temperature: float = Field(4.0, gt=0, description="T, which softens the probabilities of both networks")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        classes = student.shape[1]
        return self.temperature**2 / classes * softened_divergence(student, teacher, self.temperature)
