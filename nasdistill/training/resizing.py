"""Networks that read images at a size of their own, where a batch holds larger or smaller ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional


@dataclass
class Resizing:
    """A forward pre-hook: images [N, C, H, W] become [N, C, *size], bilinearly and with antialiasing.

    Images that have the size stay as they are.

    Attributes:
        size: None for that of the images.
        scale: what the size is multiplied by in training mode.
    """

    size: tuple[int, int] | None
    scale: float = 1.0

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.resized(inputs[0], module.training), *inputs[1:])

    def resized(self, images: torch.Tensor, training: bool = False) -> torch.Tensor:
        height, width = self.size or images.shape[2:]
        scale = self.scale if training else 1.0
        size = (max(1, round(scale * height)), max(1, round(scale * width)))
        if images.shape[2:] == size:
            return images
        return functional.interpolate(images, size, mode="bilinear", antialias=True)


def read_at(network: nn.Module, size: tuple[int, int] | None) -> nn.Module:
    """The network, which from now on resizes what it reads; the paths of its modules and its weights stay."""
    network.resizing = Resizing(size)  # type: ignore[assignment]  # nn.Module is typed to hold tensors and modules
    network.register_forward_pre_hook(network.resizing)  # type: ignore[arg-type]
    return network


def train_at(network: nn.Module, scale: float) -> None:
    """Let a network read its images at another scale in training mode, 1 for the one that it has in evaluation mode."""
    if scale != 1 and not hasattr(network, "resizing"):
        read_at(network, None)
    if hasattr(network, "resizing"):
        cast(Any, network.resizing).scale = scale


def as_read(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images as `forward` of a network gets them, for whoever calls it by another method, which knows no hooks."""
    resizing = getattr(network, "resizing", None)
    return images if resizing is None else resizing.resized(images, network.training)
