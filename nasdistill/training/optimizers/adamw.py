"""AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.training.optimizers import OPTIMIZERS, Beta, Optimizer, can_fuse

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.register("adamw")
class AdamW(Optimizer):
    """Adam whose weight decay shrinks the weights directly, outside of the moments."""

    source: ClassVar[str] = "Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2"

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay of the first and of the second moment")
    weight_decay: float = Field(0.01, ge=0, description="weight decay, multiplied by the learning rate")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        import torch

        given = list(parameters)
        return torch.optim.AdamW(
            given, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=can_fuse(given)
        )
