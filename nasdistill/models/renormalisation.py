"""Images of one normalisation for a network that was trained on another."""

from __future__ import annotations

import torch
from torch import nn

from nasdistill.data.base import Normalisation


class Renormalisation(nn.Module):
    """From images [N, C, H, W] in one normalisation to the same in another.

    x' = (p - m')/s' with p = x*s + m, so x' = x * s/s' + (m - m')/s'. Scale and shift are no weights: whoever rebuilds
    this knows the two normalisations.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, images: Normalisation, own: Normalisation) -> None:
        super().__init__()
        numbers = (images.mean, images.std, own.mean, own.std)
        mean, std, own_mean, own_std = (torch.tensor(each, dtype=torch.float64).view(1, -1, 1, 1) for each in numbers)
        self.register_buffer("scale", (std / own_std).float(), persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_std).float(), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.shift, images, self.scale)


def renormalisation(images: Normalisation | None, own: Normalisation | None) -> nn.Module:
    """What turns images in one normalisation into those of another; the identity where nothing is known or to be done.

    Args:
        images: what the images are normalised with.
        own: what a network's images were normalised with.
    """
    if images is None or own is None or images == own:
        return nn.Identity()
    return Renormalisation(images, own)
