"""The adversary of zero-shot transfer: images on which student and teacher disagree."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from nasdistill.registry import ComponentOf
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, Pseudo


@GENERATOR_LOSSES.register("adversarial")
class AdversarialBelief(GeneratorLoss):
    """Minus the divergence between what student and teacher believe, through both networks."""

    source = "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), algorithm 1"
    asks_student = True

    divergence: Annotated[Any, ComponentOf("divergences")] = Field(
        "kl", validate_default=True, description="which, e.g. l1 or {name: kl, reduction: batchmean}"
    )

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        assert pseudo.student is not None
        distance: torch.Tensor = self.divergence.between(pseudo.student, pseudo.teacher.logits)
        return -distance
