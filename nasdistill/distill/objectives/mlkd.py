"""Multi-level logit distillation: each image's answer, how alike images are answered, how classes go together."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from nasdistill.distill.logits import LogitObjective, softened_divergence
from nasdistill.distill.objectives import OBJECTIVES


def relation_distances(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared differences between the relations in both networks' probabilities P, [N, C]: to [N], and to [C].

    Of each image the sum over its row of G = P P^T, which relates the images; of each class that over its row of
    M = P^T P, which relates the classes.

    Source: Jin, Wang, Lin, Multi-level Logit Distillation (2023), section 3.
    """
    # Autocast would multiply in half precision.
    with torch.autocast(student.device.type, enabled=False):
        images = student @ student.T - teacher @ teacher.T
        classes = student.T @ student - teacher.T @ teacher
    return images.square().sum(dim=1), classes.square().sum(dim=1)


@OBJECTIVES.register("mlkd")
class MultiLevelLogitDistillation(LogitObjective):
    """instance + batch + class, summed over temperatures T, of probabilities P softened by T; labels keep 1 - weight.

    instance: T^2 * KL(teacher || student), mean over the images;
    batch: ||G_t - G_s||^2 / N, with G = P P^T of the batch's N images;
    class: ||M_t - M_s||^2 / C, with M = P^T P of the C classes.
    The several temperatures are the published augmentation of predictions. What the released code does with images is
    left out: a second, strongly augmented view of each, and two masks, which scale most terms by about one half. T^2
    and the weights are the released code's.
    """

    source = "Jin, Wang, Lin, Multi-level Logit Distillation (2023), section 3, and its released code"
    replaces_labels = True
    parts = ("instance_weight", "batch_weight", "class_weight")

    weight: float = Field(0.9, ge=0, description="the a of (1-a)*CE(labels) + a*(instance + batch + class)")
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (2.0, 3.0, 4.0, 5.0, 6.0), min_length=1, description="each T, which softens the probabilities of both networks"
    )
    instance_weight: float = Field(1.0, ge=0, description="of the divergence of each image")
    batch_weight: float = Field(1.0, ge=0, description="of the relations between the batch's images")
    class_weight: float = Field(1.0, ge=0, description="of the relations between the classes")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._at(temperature, student, teacher) for temperature in self.temperatures]).sum(dim=0)

    def _at(self, temperature: float, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        instance = temperature**2 * softened_divergence(student, teacher, temperature)
        images, classes = relation_distances(*((logits / temperature).softmax(dim=1) for logits in (student, teacher)))
        return self.instance_weight * instance + self.batch_weight * images + self.class_weight * classes.mean()
