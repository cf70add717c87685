"""Activation boundaries: a student's neurons are on where their teacher's are."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.maps import MapPair
from nasdistill.distill.objectives import OBJECTIVES, Objective, Term
from nasdistill.distill.preactivation import ConnectedPairs, preactivation_pairs


def boundary_distance(student: torch.Tensor, teacher: torch.Tensor, margin: float) -> torch.Tensor:
    """How far a student's neurons lie from being on or off, by a margin, as their teacher's are.

    Where the teacher's neuron is on (over 0) max(0, margin - s)^2, elsewhere max(0, margin + s)^2: the sum over
    channels and places, mean over the batch.

    Args:
        student, teacher: [N, C, H, W], in front of a rectifier.

    Source: Heo et al., Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons (2019),
    its loss with a margin and the connector.
    """
    missing = torch.where(teacher > 0, margin - student, margin + student).clamp(min=0)
    return missing.square().sum() / len(missing)


@OBJECTIVES.register("ab")
class ActivationBoundaries(Objective):
    """The sum over pairs of layers of how far the student's neurons are from being on where the teacher's are.

    Each layer counts half of what the next one does, as published. The student's map goes through a connector, a 1x1
    convolution and a batch norm, which is learned with it and no part of what is kept of it; the released code has none
    where channels are equal. By default both networks are read in front of their rectifiers: at the batch norm next to
    a feature point, else at the point itself. Behind a rectifier the teacher's neurons are on at the same places.

    It is published as a stage of its own, whose student then learns from labels and logits. Here it is a term beside
    the others, or stands alone with a `cross-entropy` of weight 0.
    """

    source = (
        "Heo et al., Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons (2019), and "
        "its released code"
    )

    weight: float = Field(
        0.003,
        ge=0,
        description="what the sum over pairs is multiplied by; 3/1000 is that of the released code, in its own stage",
    )
    margin: float = Field(1.0, gt=0, description="by which a neuron is to be on or off")
    pairs: tuple[tuple[str, str], ...] = Field(
        (),
        description="pairs of points, [student's, teacher's], from first to last; by default what is rectified at the "
        "networks' feature points",
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        pairs = preactivation_pairs("ab", self.pairs, student, teacher, shape)
        loss = Boundaries(pairs, self.margin)
        return Term(loss, tuple(pair.ours for pair in pairs), tuple(pair.theirs for pair in pairs))


class Boundaries(ConnectedPairs):
    """The connectors, and how far the connected student lies from its teacher's boundaries."""

    def __init__(self, pairs: tuple[MapPair, ...], margin: float) -> None:
        super().__init__("ab", pairs)
        self.margin = margin

    def distance(self, number: int, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return boundary_distance(student, teacher, self.margin)
