"""Images of classes that were asked for."""

from __future__ import annotations

import torch
from torch.nn import functional

from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, Pseudo


@GENERATOR_LOSSES.register("class-prior")
class ClassPrior(GeneratorLoss):
    """The teacher's cross-entropy with classes drawn evenly for the pseudo-batch, mean over images.

    Published weight: 1. It is for generators that start over for each pseudo-batch: one that learns over all of them
    does not know the classes.
    """

    source = "Yin et al., Dreaming to Distill: Data-Free Knowledge Transfer via DeepInversion (2020), equation 2"

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        return functional.cross_entropy(pseudo.teacher.logits, pseudo.targets)
