"""Variational information distillation: how much a student's layer tells of its teacher's."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.data.seeds import generator_for
from nasdistill.distill.learned import LearnedLoss, Preview, reinitialise
from nasdistill.distill.maps import MapPair, map_pairs, pooled_alike
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.training.batches import Batch

FIRST_VARIANCE = 5.0
"""Of each channel before training, as in the released code."""

LEAST_VARIANCE = 1e-5
"""Below which no channel's can fall, as in the released code."""


def gaussian_surprise(maps: torch.Tensor, means: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """-log of the density of maps under Gaussians, without its constant: (maps - means)^2 / (2 v) + log(v) / 2.

    Args:
        maps, means: [N, C, H, W].
        scales: alpha of each channel, [C]; its variance is v = log(1 + exp(alpha)) + 1e-5.

    Returns:
        The mean over batch, channels and places, a scalar.

    Source: Ahn et al., Variational Information Distillation for Knowledge Transfer (2019), section 2.
    """
    variances = (functional.softplus(scales) + LEAST_VARIANCE).view(-1, 1, 1)
    return ((maps - means).square() / variances + variances.log()).mean() / 2


@OBJECTIVES.register("vid")
class VariationalInformationDistillation(Objective):
    """The sum over pairs of layers of -log q(t|s), mean over batch, channels and places of the teacher's map t.

    q is Gaussian: its means are predicted from the student's map by three 1x1 convolutions, with rectifiers between
    them; its variances are learned, one for each channel. They are learned with the student and are no part of what is
    kept of it. The less a student leaves open about its teacher's layer, the lower the loss, which can be negative.
    """

    source = "Ahn et al., Variational Information Distillation for Knowledge Transfer (2019), and its released code"

    weight: float = Field(1.0, ge=0, description="what the sum over pairs is multiplied by, as published")
    pairs: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of points, [student's, teacher's]; by default the networks' feature points"
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        pairs = map_pairs("vid", self.pairs, student, teacher, shape)
        loss = VariationalInformation(pairs)
        return Term(loss, tuple(pair.ours for pair in pairs), tuple(pair.theirs for pair in pairs))


class VariationalInformation(LearnedLoss):
    """A Gaussian of each teacher's layer, given the student's."""

    def __init__(self, pairs: tuple[MapPair, ...]) -> None:
        super().__init__()
        self.pairs = pairs
        self.means = nn.ModuleList(_predictor(pair.student[0], pair.teacher[0]) for pair in pairs)
        # The inverse of how a variance comes from its scale.
        first = math.log(math.expm1(FIRST_VARIANCE - LEAST_VARIANCE))
        self.scales = nn.ParameterList(torch.full((pair.teacher[0],), first) for pair in pairs)

    def prepare(self, preview: Preview) -> None:
        """Draw the convolutions by the seed alone."""
        reinitialise(self.means, generator_for(preview.seed, "vid"))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        losses = []
        for pair, predict, scales in zip(self.pairs, self.means, self.scales, strict=True):
            ours, theirs = pooled_alike(student.features[pair.ours], teacher.features[pair.theirs])
            losses.append(gaussian_surprise(theirs, predict(ours).to(theirs.dtype), scales))
        return torch.stack(losses).sum()


def _predictor(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 1, bias=False),
    )
