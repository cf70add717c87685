"""The absolute difference between the student's logits and the teacher's."""

from __future__ import annotations

import torch

from nasdistill.distill.divergences import DIVERGENCES, Divergence


@DIVERGENCES.register("l1")
class AbsoluteDifference(Divergence):
    """Sum over classes of |z_s - z_t|, of logits. Its gradient does not vanish as the student comes near."""

    source = "Fang et al., Data-Free Adversarial Distillation (2019), and its released code"

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return (student - teacher).abs().sum(dim=1)
