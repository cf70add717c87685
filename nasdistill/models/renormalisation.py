"""Images of one normalisation for a network that was trained on another."""

from __future__ import annotations

import torch
from torch import nn

from nasdistill.data.base import LUMA, Normalisation
from nasdistill.errors import UserError


class Renormalisation(nn.Module):
    """From images [N, C, H, W] in one normalisation to the same in another.

    x' = (p - m')/s' with p = x*s + m, so x' = x * s/s' + (m - m')/s'. Scale and shift are no weights: whoever rebuilds
    this knows the two normalisations.

    A normalisation of one channel is that of each where the other has three: a grey image becomes one of three equal
    colours, and a colour image its luma 0.299*R + 0.587*G + 0.114*B (ITU-R BT.601), in which that one is grey again.

    Raises:
        UserError: the channels are other numbers than one and three, and differ.
    """

    scale: torch.Tensor
    shift: torch.Tensor
    luma: torch.Tensor | None

    def __init__(self, images: Normalisation, own: Normalisation) -> None:
        super().__init__()
        channels = len(images.mean), len(own.mean)
        if channels[0] != channels[1] and set(channels) != {1, 3}:
            raise UserError(f"images of {channels[0]} channels have no form with {channels[1]}; grey and colour have")
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1) if channels == (3, 1) else None, False)
        numbers = (images.mean, images.std, own.mean, own.std)
        mean, std, own_mean, own_std = (torch.tensor(each, dtype=torch.float64).view(1, -1, 1, 1) for each in numbers)
        self.register_buffer("scale", (std / own_std).float(), persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_std).float(), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        own = torch.addcmul(self.shift, images, self.scale)
        return own if self.luma is None else (own * self.luma).sum(1, keepdim=True)


def renormalisation(images: Normalisation | None, own: Normalisation | None) -> nn.Module:
    """What turns images in one normalisation into those of another; the identity where nothing is known or to be done.

    Args:
        images: what they are normalised with.
        own: what a network's images were normalised with.
    """
    if images is None or own is None or images == own:
        return nn.Identity()
    return Renormalisation(images, own)
