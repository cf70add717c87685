"""Hints: a layer of the student predicts a layer of the teacher."""

from __future__ import annotations

import logging

import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.data.seeds import generator_for
from nasdistill.distill.hint_options import Form, HintOptions
from nasdistill.distill.learned import LearnedLoss, Preview, reinitialise
from nasdistill.distill.matching import GIVE_A_PAIR, default_points
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.distill.regressor import hint_distance, pooled_hint, regressor
from nasdistill.distill.taps import output_shapes
from nasdistill.training.batches import Batch

log = logging.getLogger(__name__)


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
