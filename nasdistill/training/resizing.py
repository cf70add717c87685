"""Networks that read images at a size of their own, where a batch holds larger or smaller ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Resizing:
    """A forward pre-hook: images [N, C, H, W] become [N, C, *size], bilinearly and with antialiasing.

    Images that have the size stay as they are.
    """

    size: tuple[int, int]

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.resized(inputs[0]), *inputs[1:])

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[2:] == self.size:
            return images
        return functional.interpolate(images, self.size, mode="bilinear", antialias=True)


def read_at(network: nn.Module, size: tuple[int, int]) -> nn.Module:
    """The network, which from now on resizes what it reads; the paths of its modules and its weights stay."""
    network.resizing = Resizing(size)  # type: ignore[assignment]  # nn.Module is typed to hold tensors and modules
    network.register_forward_pre_hook(network.resizing)  # type: ignore[arg-type]
    return network


def as_read(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images as `forward` of a network gets them, for whoever calls it by another method, which knows no hooks."""
    resizing = getattr(network, "resizing", None)
    return images if resizing is None else resizing.resized(images)
