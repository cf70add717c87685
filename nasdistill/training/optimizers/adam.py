"""Adam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.training.optimizers import OPTIMIZERS, Beta, Optimizer, can_fuse

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.register("adam")
class Adam(Optimizer):
    """Steps scaled by running moments of the gradient; weight decay is a term of the gradient."""

    source: ClassVar[str] = "Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1"

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay of the first and of the second moment")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        import torch

        given = list(parameters)
        return torch.optim.Adam(
            given, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=can_fuse(given)
        )
