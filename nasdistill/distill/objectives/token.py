"""Distillation through a token: a classifier of its own in a vision transformer says what the teacher says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.component import Facts
from nasdistill.data.base import Shape
from nasdistill.distill.logits import softened_divergence
from nasdistill.distill.matching import vectors
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch


@OBJECTIVES.register("token")
class DistillationToken(Objective):
    """The distillation token learns the teacher's likeliest class, or its probabilities; labels keep 1 - weight.

    hard: cross-entropy with the likeliest class; soft: T^2 * KL(teacher || token) of probabilities softened by T; both
    means over the batch. What the labels and other objectives teach is the student's other classifier, beside which
    the token answers in the end. The student is a `vit` with `distillation_token: true`. T and the weights are the
    paper's; the released code divides the soft form by the number of classes too.
    """

    source = "Touvron et al., Training data-efficient image transformers (2021), section 4, equations 2 and 3"
    weighs_images = True
    replaces_labels = True
    teaches_token = True

    weight: float = Field(
        0.5, ge=0, description="the a of (1-a)*CE(labels) + a*loss; published: 0.5 for hard targets, 0.1 for soft ones"
    )
    targets: Literal["hard", "soft"] = Field(
        "hard", description="what the token learns: the teacher's likeliest class (hard), or its probabilities (soft)"
    )
    temperature: float = Field(3.0, gt=0, description="T of soft targets, which softens the token's probabilities too")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.weight and self.targets == "hard":
            for name in self.differs("temperature"):
                yield name, "hard targets have none"

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        point = getattr(student, "distillation_point", None)
        if point is None:
            raise UserError(
                "the student has no distillation token that could learn; take a `vit` with `distillation_token: true` "
                "as the student, or leave the objective out"
            )

        def loss(student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
            return batch.mean(self.distance(vectors(student.features[point]), teacher.logits))

        return Term(loss, (point,))

    def distance(self, token: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """The unweighted loss of each image, [N], of logits [N, C] each."""
        if self.targets == "hard":
            return functional.cross_entropy(token, teacher.argmax(dim=1), reduction="none")
        return self.temperature**2 * softened_divergence(token, teacher, self.temperature)
