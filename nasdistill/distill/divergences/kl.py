"""The Kullback-Leibler divergence from the student's beliefs to the teacher's."""

from __future__ import annotations

import torch

from nasdistill.distill.divergences import DIVERGENCES, Divergence
from nasdistill.distill.logits import softened_divergence


@DIVERGENCES.register("kl")
class KullbackLeibler(Divergence):
    """KL(p_t || p_s) = sum over classes of p_t * log(p_t / p_s), in nats."""

    source = "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), equation 1"

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return softened_divergence(student, teacher)
