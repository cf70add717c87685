"""Images that the teacher is sure of, whatever it takes them for."""

from __future__ import annotations

import torch
from torch.nn import functional

from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, Pseudo


@GENERATOR_LOSSES.register("one-hot")
class OneHot(GeneratorLoss):
    """The teacher's cross-entropy with its own likeliest class, mean over images. Published weight: 1."""

    source = "Chen et al., Data-Free Learning of Student Networks (2019), equation 2"

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        logits = pseudo.teacher.logits
        return functional.cross_entropy(logits, logits.argmax(dim=1))
