"""Parts of a generator that belong to one pseudo-batch."""

from __future__ import annotations

import abc

import torch
from torch import nn
from torch.nn import functional


class OfOneBatch(nn.Module, abc.ABC):
    """It begins anew with each pseudo-batch, and learns in the steps on it alone; what it learns is of one process."""

    @abc.abstractmethod
    def renew(self, chance: torch.Generator) -> None:
        """Set the parameters anew; `chance`, on the CPU, is the only source of randomness."""


class LearnedLatents(OfOneBatch):
    """Latents, [images, latents], plus `speed` times what was learned of them.

    Adam's steps are as long whatever a gradient is multiplied by, so that latents learn `speed` times as fast as the
    weights beside them.
    """

    def __init__(self, images: int, latents: int, speed: float) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(images, latents))
        self.speed = speed

    def renew(self, chance: torch.Generator) -> None:
        nn.init.zeros_(self.offset)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return latents + self.speed * self.offset


class NoisyLayers(OfOneBatch):
    """Several linear layers, each for as many rows as come after those of the one before.

    Args:
        layers: how many.
        rows: of each layer.
        inputs, outputs: numbers of a row before and after.
    """

    def __init__(self, layers: int, rows: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.rows = rows
        self.weight = nn.Parameter(torch.randn(layers, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(layers, outputs))

    def renew(self, chance: torch.Generator) -> None:
        with torch.no_grad():
            self.weight.copy_(torch.randn(self.weight.shape, generator=chance))
            self.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, outputs] of [N, inputs], at most as many rows as all layers together have; the last may have fewer."""
        layers = len(self.weight)
        full = functional.pad(x, (0, 0, 0, layers * self.rows - len(x))).view(layers, self.rows, -1)
        return torch.baddbmm(self.bias[:, None], full, self.weight).flatten(0, 1)[: len(x)]
