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
        "Fang et al., Data-Free Adversarial Distillation (2019), and its released code, with and without the "
        "logarithm; of images that are agreed on alone Fang et al., Contrastive Model Inversion (2021), released code"
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
    agreed: bool = Field(
        False,
        description="count images alone on which both predict the same class, in a mean over all: where they differ "
        "already nothing pulls them further apart; so in the code of CMI, Fast and NAYER",
    )

    def loss(self, pseudo: Pseudo) -> torch.Tensor:
        assert pseudo.student is not None
        student, teacher = pseudo.student, pseudo.teacher.logits
        counts = student.argmax(dim=1) == teacher.argmax(dim=1) if self.agreed else None
        distance: torch.Tensor = self.divergence.between(student, teacher, counts)
        return -distance.log1p() if self.logarithm else -distance
