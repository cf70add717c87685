"""Knowledge distillation: the student matches the teacher's softened probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from nasdistill.distill.logits import LogitObjective, softened_divergence
from nasdistill.distill.objectives import OBJECTIVES

if TYPE_CHECKING:
    import torch


@OBJECTIVES.register("kd")
class KnowledgeDistillation(LogitObjective):
    """T^2 * KL(teacher || student) of probabilities softened by T, mean over the batch; labels keep 1 - weight.

    T^2 keeps the gradient's size independent of T: for large T it tends to (s - t) / classes, for logits of mean zero.
    """

    source = "Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network (2015), section 2"
    replaces_labels = True

    weight: float = Field(0.9, ge=0, description="the a of (1-a)*CE(labels) + a*T^2*KL(teacher || student)")
    temperature: float = Field(4.0, gt=0, description="T, which softens the probabilities of both networks")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.temperature**2 * softened_divergence(student, teacher, self.temperature)
