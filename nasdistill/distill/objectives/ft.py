"""Factor transfer: a student's translation of its last layer against a paraphrase of its teacher's."""

from __future__ import annotations

import logging
import math
from itertools import pairwise

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.data.seeds import derived_seed, generator_for, seeded
from nasdistill.distill.learned import LearnedLoss, Preview, reinitialise
from nasdistill.distill.maps import MapPair, map_pairs, pooled_alike
from nasdistill.distill.matching import GIVE_A_PAIR, default_points
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch

log = logging.getLogger(__name__)

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
"""Of the paraphraser's SGD, as in the released code."""
CLIP = 5.0
"""Longest gradient of it."""


def factor_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """|F_t / ||F_t||_2 - F_s / ||F_s||_2|, mean over the batch and all values of an image's factor; a scalar.

    Args:
        student, teacher: factors, [N, F, H, W]; where the sizes differ, the larger is averaged down to the smaller.

    Source: Kim et al., Paraphrasing Complex Network: Network Compression via Factor Transfer (2018), section 3, with
    p = 1; the paper writes a norm, which is a sum over the values.
    """
    ours, theirs = (functional.normalize(maps.flatten(1), dim=1) for maps in pooled_alike(student, teacher))
    return functional.l1_loss(ours, theirs)


@OBJECTIVES.register("ft")
class FactorTransfer(Objective):
    """The L1 distance of the student's and the teacher's factors, each of an image scaled to length 1.

    A paraphraser, three convolutions, makes a factor of the teacher's map. Before the student trains, it is trained
    without labels to a factor from which three more convolutions can restore the map; then it stays as it is. A
    translator of the same form is learned with the student; neither is part of what is kept of it.

    The released code trains the paraphraser with the student's augmentation and writes it to a file; here it sees the
    training images as they are, in a fixed order, and is trained anew with each student; gradients longer than 5 are
    scaled, as they are by default in all training here.
    """

    source = "Kim et al., Paraphrasing Complex Network: Network Compression via Factor Transfer (2018), and its code"
    needs_training_set = True

    weight: float = Field(500.0, ge=0, description="beta, which the mean over a factor's values is multiplied by")
    rate: float = Field(0.5, gt=0, description="k: channels of a factor as a share of those of the teacher's map")
    epochs: int = Field(5, gt=0, description="passes over the training images that train the paraphraser")
    lr: float = Field(0.1, gt=0, description="learning rate of the paraphraser's SGD")
    pair: tuple[str, str] | None = Field(
        None, description="points, [student's, teacher's]; by default the last feature point of each network"
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        asked = self.pair or (
            default_points(student, shape, "student", GIVE_A_PAIR)[-1],
            default_points(teacher, shape, "teacher", GIVE_A_PAIR)[-1],
        )
        (pair,) = map_pairs("ft", (asked,), student, teacher, shape)
        return Term(Factors(self, pair), (pair.ours,), (pair.theirs,))


class Factors(LearnedLoss):
    """The paraphraser, which `prepare` trains, and the translator."""

    def __init__(self, settings: FactorTransfer, pair: MapPair) -> None:
        super().__init__()
        self.settings = settings
        self.pair = pair
        channels = pair.teacher[0]
        factors = max(1, round(settings.rate * channels))
        self.paraphraser = _convolutions(channels, channels, factors, factors).requires_grad_(False)
        self.translator = _convolutions(pair.student[0], pair.student[0], factors, factors)
        # No part of the module, because nothing reads it once the paraphraser is trained.
        self._restorer_widths = (factors, factors, channels, channels)

    def prepare(self, preview: Preview) -> None:
        """Draw both by the seed alone, and train the paraphraser.

        Raises:
            UserError: its training diverged.
        """
        reinitialise(self.translator, generator_for(preview.seed, "ft", "translator"))
        reinitialise(self.paraphraser, generator_for(preview.seed, "ft", "paraphraser"))
        # Convolutions of stride 1 are what the published transposed ones are, but for the order of their weights.
        with seeded(derived_seed(preview.seed, "ft", "restorer"), torch.device("cpu")):
            restorer = _convolutions(*self._restorer_widths)
        restorer.to(next(self.paraphraser.parameters()))
        self.paraphraser.requires_grad_(True)
        learned = [*self.paraphraser.parameters(), *restorer.parameters()]
        optimizer = torch.optim.SGD(learned, self.settings.lr, MOMENTUM, weight_decay=WEIGHT_DECAY)
        for _epoch in range(self.settings.epochs):
            total = torch.zeros((), device=learned[0].device)
            images = 0
            for _student, teacher, batch in preview.outputs():
                maps = teacher.features[self.pair.theirs].detach().to(learned[0].dtype)
                loss = functional.l1_loss(restorer(self.paraphraser(maps)), maps)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(learned, CLIP)
                optimizer.step()
                total += loss.detach() * len(batch.images)
                images += len(batch.images)
        self.paraphraser.requires_grad_(False)
        error = float(total / images)
        log.info("ft: the paraphraser's factors restore the teacher's map with a mean error of %.3g", error)
        if not math.isfinite(error):
            raise UserError(f"the paraphraser of ft diverged with the learning rate {self.settings.lr:g}; lower `lr`")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        ours, theirs = student.features[self.pair.ours], teacher.features[self.pair.theirs]
        return factor_distance(self.translator(ours), self.paraphraser(theirs))


def _convolutions(*widths: int) -> nn.Sequential:
    """3x3 convolutions from each width to the next, each followed by a leaky rectifier of slope 0.1."""
    layers = ((nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.1)) for before, after in pairwise(widths))
    return nn.Sequential(*(layer for pair in layers for layer in pair))
