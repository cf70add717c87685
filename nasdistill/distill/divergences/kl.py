"""The Kullback-Leibler divergence from the student's beliefs to the teacher's."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from nasdistill.distill.divergences import DIVERGENCES, Divergence
from nasdistill.distill.logits import softened_divergence


@DIVERGENCES.register("kl")
class KullbackLeibler(Divergence):
    """KL(p_t || p_s) = sum over classes of p_t * log(p_t / p_s), in nats."""

    source = "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), equation 1"

    reduction: Literal["mean", "batchmean"] = Field(
        "mean",
        description="mean: over images and classes, as the released code of zero-shot transfer has it; batchmean: over "
        "images alone, which is `classes` times as large",
    )

    def between(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        nats = softened_divergence(student, teacher).mean()
        return nats if self.reduction == "batchmean" else nats / student.shape[1]
