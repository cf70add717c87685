"""Similarity-preserving distillation: images that are alike to the teacher are alike to the student."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.distill.matching import GIVE_PAIRS, default_points, vectors
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.training.batches import Batch


def similarities(activation: torch.Tensor) -> torch.Tensor:
    """G = Q Q^T with each row divided by its L2 norm, [N, ...] to [N, N]; Q has an image's activation in each row.

    Source: Tung, Mori, Similarity-Preserving Knowledge Distillation (2019), section 3.
    """
    rows = vectors(activation)
    # Autocast would multiply in half precision.
    with torch.autocast(rows.device.type, enabled=False):
        return functional.normalize(rows @ rows.T, dim=1)


def similarity_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """||G_t - G_s||_F^2 / N^2 of two activations of the same N images, of any shapes.

    Source: Tung, Mori, Similarity-Preserving Knowledge Distillation (2019), section 3.
    """
    return functional.mse_loss(similarities(student), similarities(teacher))


@OBJECTIVES.register("similarity")
class Similarity(Objective):
    """The sum over pairs of layers of ||G_t - G_s||_F^2 / N^2, with the similarities G of a batch's N images.

    Layers of different shapes can be paired, as only images are compared.
    """

    source = "Tung, Mori, Similarity-Preserving Knowledge Distillation (2019), section 3"

    weight: float = Field(3000.0, ge=0, description="gamma, which the sum over pairs is multiplied by")
    pairs: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of points, [student's, teacher's]; by default the last feature point of each network"
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        pairs = self.pairs or (
            (
                default_points(student, shape, "student", GIVE_PAIRS)[-1],
                default_points(teacher, shape, "teacher", GIVE_PAIRS)[-1],
            ),
        )

        def loss(student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
            distances = [
                similarity_distance(student.features[ours], teacher.features[theirs]) for ours, theirs in pairs
            ]
            return torch.stack(distances).sum()

        return Term(loss, tuple(ours for ours, _ in pairs), tuple(theirs for _, theirs in pairs))
