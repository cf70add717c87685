"""Curriculum temperature: the temperature is learned against the student, gently at first."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.learned import LearnedLoss
from nasdistill.distill.logits import LogitObjective, softened_divergence
from nasdistill.distill.objectives import OBJECTIVES, Outputs, Term
from nasdistill.training.batches import Batch


def reversed_gradient(value: torch.Tensor, factor: float) -> torch.Tensor:
    """The value itself, whose gradient comes back multiplied by -factor.

    Source: Ganin, Lempitsky, Unsupervised Domain Adaptation by Backpropagation (2015), section 3.1.
    """
    return value.detach() - factor * (value - value.detach())


def cosine_rise(epoch: int, epochs: float) -> float:
    """From 0 towards 1 as half a cosine: (1 - cos(pi * (epoch + 1) / epochs)) / 2, and 1 from the last of `epochs` on.

    Args:
        epoch: counted from 0; the first is above 0 already.
        epochs: of the rise; with none it is 1 throughout.

    Source: Li et al., Curriculum Temperature for Knowledge Distillation (2023), section 3.3, its released code.
    """
    return (1 - math.cos(math.pi * min(1.0, (epoch + 1) / epochs))) / 2 if epochs else 1.0


@OBJECTIVES.register("ctkd")
class CurriculumTemperature(LogitObjective):
    """T^2 * KL(teacher || student) of probabilities softened by a T that is learned against the student.

    T = temperature_init + temperature_range * sigmoid(theta), one for all images; theta starts at 1. The optimiser
    that minimises the loss for the student gets theta's gradient multiplied by -lambda, so that T moves to where the
    loss is larger. lambda rises as half a cosine over the first `curriculum` epochs. T is reported with each epoch,
    saved in checkpoints, and no part of what is kept of the student. Of the published forms this is the global one;
    the constants are those of its released command. Labels keep 1 - weight.
    """

    source = "Li et al., Curriculum Temperature for Knowledge Distillation (2023), section 3, and its released code"
    replaces_labels = True
    counts_epochs = ("warmup", "curriculum")

    weight: float = Field(0.9, ge=0, description="the a of (1-a)*CE(labels) + a*T^2*KL(teacher || student)")
    temperature_init: float = Field(1.0, gt=0, description="bound that T stays above")
    temperature_range: float = Field(20.0, gt=0, description="T stays below temperature_init + this")
    lambda_max: float = Field(1.0, gt=0, description="lambda at the end of its rise")
    curriculum: float = Field(
        10.0, ge=0, description="epochs over which lambda rises from 0; with 0 it is lambda_max throughout"
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        return Term(AdversarialTemperature(self))


class AdversarialTemperature(LearnedLoss):
    """The temperature, and the loss that it softens and works against."""

    def __init__(self, settings: CurriculumTemperature) -> None:
        super().__init__()
        self.settings = settings
        self.theta = nn.Parameter(torch.ones(()))
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        self.strength = self.settings.lambda_max * cosine_rise(epoch, self.settings.curriculum)

    def temperature(self) -> torch.Tensor:
        """T, a scalar, with its gradient reversed."""
        settings = self.settings
        theta = reversed_gradient(self.theta, self.strength)
        return settings.temperature_init + settings.temperature_range * theta.sigmoid()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        temperature = self.temperature()
        ours, theirs = self.settings.compared(student, teacher)
        return batch.mean(temperature**2 * softened_divergence(ours, theirs, temperature))

    def end_epoch(self) -> dict[str, float]:
        return {"temperature": float(self.temperature().detach())}
