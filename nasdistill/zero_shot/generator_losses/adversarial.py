"""The adversary of zero-shot transfer: images on which student and teacher disagree."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from nasdistill.registry import ComponentOf
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, GeneratorLoss, Pseudo


@GENERATOR_LOSSES.register("adversarial")
class AdversarialBelief(GeneratorLoss):
    """Minus the divergence between the predictions of student and teacher; gradients pass through both."""

    source = (
        "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), algorithm 1; with l1 "
        "Fang et al., Data-Free Adversarial Distillation (2019), and its released code, with and without the logarithm"
    )
    asks_student = True

    divergence: Annotated[Any, ComponentOf("divergences")] = Field(
        "kl", validate_default=True, description="which, e.g. l1 or {name: kl, reduction: batchmean}"
    )

    logarithm: bool = Field(
        False,
        description="-log(1 + divergence) instead, whose gradient is smaller where the two differ more; DFAD's "
        "released code has it for segmentation, not for CIFAR-10",
    )

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        assert pseudo.student is not None
        distance: torch.Tensor = self.divergence.between(pseudo.student, pseudo.teacher.logits)
        return -distance.log1p() if self.logarithm else -distance
