"""Probabilistic knowledge transfer: which images of a batch are likely neighbours of which."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.matching import embedding_pair, vectors
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.training.batches import Batch

EPSILON = 1e-7
"""What the released code adds to probabilities before their logarithm."""


def neighbours(embeddings: torch.Tensor) -> torch.Tensor:
    """How likely each image of a batch is the neighbour of each, [N, ...] to [N, N]; the rows add up to 1.

    p[i, j] = K_ij / (sum over k of K_ik) with K = (cosine + 1) / 2; an embedding of zeros has the cosine 0 with all.

    Source: Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer (2018), section 3,
    with the cosine kernel; the sum has k = i in it, as in the released code.
    """
    points = vectors(embeddings)
    # Autocast would multiply in half precision.
    with torch.autocast(points.device.type, enabled=False):
        lengths: torch.Tensor = torch.linalg.vector_norm(points, dim=1, keepdim=True)
        # Not divided by zero: embeddings of a student whose rectifiers are dead have finite gradients.
        units = points / lengths.where(lengths > 0, 1.0)
        kernel = (units @ units.T + 1) / 2
        return kernel / kernel.sum(dim=1, keepdim=True)


@OBJECTIVES.register("pkt")
class ProbabilisticKnowledgeTransfer(Objective):
    """The divergence of the teacher's and the student's probabilities that images of a batch are neighbours.

    The embeddings may differ in size and scale. The loss is the mean of p * log(p / q) over all N^2 pairs of a batch,
    an image with itself included, as in the released code, to which the published weight belongs; the paper writes a
    sum over pairs of different images. The mean is 1/N of an image's divergence, so that a batch of twice as many
    images weighs the same with twice the weight.
    """

    source = (
        "Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer (2018), section 3, "
        "and its released code"
    )

    weight: float = Field(
        30000.0, ge=0, description="what the mean over pairs is multiplied by; published for batches of 64"
    )
    pair: tuple[str, str] | None = Field(
        None, description="points, [student's, teacher's]; by default the input of each network's last linear layer"
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        ours, theirs = embedding_pair(self.pair, student, teacher, shape)

        def loss(student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
            said, taught = neighbours(student.features[ours]), neighbours(teacher.features[theirs])
            return (taught * ((taught + EPSILON) / (said + EPSILON)).log()).mean()

        return Term(loss, (ours,), (theirs,))
