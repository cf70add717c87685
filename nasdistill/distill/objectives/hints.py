"""Hints: a layer of the student predicts a layer of the teacher."""

from __future__ import annotations

import logging

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.data.seeds import generator_for
from nasdistill.distill.hint_options import Form, HintOptions
from nasdistill.distill.learned import LearnedLoss, Preview, reinitialise
from nasdistill.distill.matching import GIVE_A_PAIR, default_points
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.distill.taps import output_shapes
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch

log = logging.getLogger(__name__)


def regressor(student: tuple[int, ...], teacher: tuple[int, ...], relu: bool = False) -> nn.Module:
    """A layer from what a student's layer puts out to what `pooled_hint` makes of its teacher's.

    Maps: a convolution without padding of kernel k = N_s - N_t + 1 along each axis, so that N_s places become N_t; 1x1
    where the maps are of equal size, and where the student's is the smaller, as the teacher's is then pooled to it.
    Vectors, or rows of them: a linear layer.

    Args:
        student: shape of its layer's output for one image: [C, H, W], [D], or [T, D].
        teacher: the same.
        relu: followed by a rectifier.

    Raises:
        UserError: one is a map and the other is none, or they have unequal numbers of rows.

    Source: Romero et al., FitNets: Hints for Thin Deep Nets (2015), section 2.2, which asks for the nonlinearity of the
    teacher's layer after the regressor; raw outputs, such as those of a residual block, have none.
    """
    layer: nn.Module
    if len(student) == len(teacher) == 3:
        kernel = [max(1, ours - theirs + 1) for ours, theirs in zip(student[1:], teacher[1:], strict=True)]
        layer = nn.Conv2d(student[0], teacher[0], (kernel[0], kernel[1]))
    elif len(student) == len(teacher) and student[:-1] == teacher[:-1]:
        layer = nn.Linear(student[-1], teacher[-1])
    else:
        raise UserError(
            f"hints need two maps, or two vectors, but the student's layer puts out {list(student)} per image "
            f"and the teacher's {list(teacher)}"
        )
    return nn.Sequential(layer, nn.ReLU()) if relu else layer


def pooled_hint(hint: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """A teacher's map, averaged down to the places that the student's regressor has; anything else as it is.

    Args:
        hint: [N, C, H, W], or vectors.
        size: of what the regressor puts out.
    """
    return functional.adaptive_avg_pool2d(hint, size[2:]) if len(size) == 4 and hint.shape != size else hint


def hint_distance(regressed: torch.Tensor, hint: torch.Tensor, form: Form) -> torch.Tensor:
    """How far the regressed student's layer lies from the teacher's, both [N, ...].

    `paper`: mean over the batch of 1/2 * ||hint - regressed||^2.
    `code`:  mean over batch, channels and places of (hint - regressed)^2, as widely used code computes it; `paper` is
    C*H*W/2 times as large.

    Source: Romero et al., FitNets: Hints for Thin Deep Nets (2015), equation 3.
    """
    squared = (hint.float() - regressed.float()).square()
    return squared.mean() if form == "code" else squared.sum() / (2 * len(squared))


@OBJECTIVES.register("hints")
class Hints(HintOptions, Objective):
    """Squared error between a layer of the teacher and its prediction by a regressor from a layer of the student.

    The regressor (a convolution, for vectors a linear layer) is trained with the student and is no part of what is
    kept of it. As published hints come first and alone: that is the stage `hints`. Beside other objectives they are a
    term like any other.
    """

    source = "Romero et al., FitNets: Hints for Thin Deep Nets (2015), equation 3"

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        ours, theirs = self.pair or (_middle(student, shape, "student"), _middle(teacher, shape, "teacher"))
        guided = output_shapes(student, [ours], shape, "student")[ours]
        hint = output_shapes(teacher, [theirs], shape, "teacher")[theirs]
        learned = regressor(guided, hint, self.relu)
        log.info("hints: the student's %s %s learns from the teacher's %s %s", ours, list(guided), theirs, list(hint))
        if len(hint) == 3 and any(places > own for places, own in zip(hint[1:], guided[1:], strict=True)):
            log.info("hints: the teacher's map is larger than the student's and is pooled to its size")
        return Term(HintLoss(learned, (ours, theirs), self.form), (ours,), (theirs,))


class HintLoss(LearnedLoss):
    """A regressor and the distance that it is to close."""

    def __init__(self, regressor: nn.Module, pair: tuple[str, str], form: Form) -> None:
        super().__init__()
        self.regressor = regressor
        self.pair = pair
        self.form = form

    def prepare(self, preview: Preview) -> None:
        """Draw the regressor by the seed alone."""
        reinitialise(self.regressor, generator_for(preview.seed, "regressor"))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        ours, theirs = self.pair
        return self.between(student.features[ours], teacher.features[theirs])

    def between(self, guided: torch.Tensor, hint: torch.Tensor) -> torch.Tensor:
        """The loss from the outputs of the two layers alone."""
        regressed = self.regressor(guided)
        return hint_distance(regressed, pooled_hint(hint, regressed.shape), self.form)


def _middle(network: nn.Module, shape: Shape, whose: str) -> str:
    points = default_points(network, shape, whose, GIVE_A_PAIR)
    return points[(len(points) - 1) // 2]
