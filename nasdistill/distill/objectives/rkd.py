"""Relational distillation: distances and angles between a batch's embeddings."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.distill.matching import embedding_pair, vectors
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.training.batches import Batch


def relations(embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances and angles between the N embeddings of a batch, [N, ...] to [N, N] and [N, N, N].

    distances[i, j] = ||x_i - x_j|| / mu, where mu is the mean of those distances that are not zero;
    angles[j, i, k] = cos of the angle at x_j between x_i and x_k; 0 where one of them lies on x_j.

    Source: Park et al., Relational Knowledge Distillation (2019), section 3.2.
    """
    points = vectors(embeddings)
    # Autocast would multiply in half precision.
    with torch.autocast(points.device.type, enabled=False):
        differences = points.unsqueeze(0) - points.unsqueeze(1)
        lengths: torch.Tensor = torch.linalg.vector_norm(differences, dim=2)
        apart = lengths > 0
        mean = lengths.sum() / apart.sum().clamp(min=1)
        # Nothing is divided by zero or next to it: embeddings that coincide have finite gradients.
        directions = differences / lengths.where(apart, 1.0).unsqueeze(2)
        return lengths / mean.where(mean > 0, 1.0), directions @ directions.transpose(1, 2)


@OBJECTIVES.register("rkd")
class RelationalKnowledgeDistillation(Objective):
    """distance_weight*L_D + angle_weight*L_A: Huber losses between both networks' distances, and between their angles.

    The embeddings may differ in size and scale. Each loss is a mean over all pairs or triples of the batch, those that
    name an image twice included, as in the released code; the paper writes a sum over those of different images. Angles
    take memory for the cube of the batch size.
    """

    source = "Park et al., Relational Knowledge Distillation (2019), section 3.2, and its released code"
    parts = ("distance_weight", "angle_weight")

    distance_weight: float = Field(25.0, ge=0, description="of the loss between distances")
    angle_weight: float = Field(50.0, ge=0, description="of the loss between angles")
    pair: tuple[str, str] | None = Field(
        None, description="points, [student's, teacher's]; by default the input of each network's last linear layer"
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        ours, theirs = embedding_pair(self.pair, student, teacher, shape)

        def loss(student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
            distances, angles = relations(student.features[ours])
            taught_distances, taught_angles = relations(teacher.features[theirs])
            return self.distance_weight * functional.smooth_l1_loss(
                distances, taught_distances
            ) + self.angle_weight * functional.smooth_l1_loss(angles, taught_angles)

        return Term(loss, (ours,), (theirs,))
