"""Networks that read pixels in place of normalised images, for programs that normalise nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from nasdistill.data.base import Normalisation
from nasdistill.data.loaders import scale_and_shift
from nasdistill.errors import UserError
from nasdistill.models.base import NetworkSpec


class OfPixels(nn.Module):
    """From pixels, uint8 [N, H, W, C], to probabilities [N, classes].

    Raises:
        UserError: the network reads no images, or nobody knows what they were normalised with.
    """

    def __init__(self, network: nn.Module, spec: NetworkSpec) -> None:
        super().__init__()
        if spec.normalisation is None or spec.shape[1] == 1:
            lacks = "its images' normalisation is not known" if spec.normalisation is None else "it reads no images"
            raise UserError(f"`preprocessing` does not go with this network: {lacks}")
        self.network = network
        self.scale, self.shift = scale_and_shift(spec.normalisation, torch.device("cpu"))
        self.train(network.training)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = self.network(pixels.permute(0, 3, 1, 2) * self.scale + self.shift).softmax(1)
        return probabilities


def pixels_of(images: torch.Tensor, normalisation: Normalisation | None) -> torch.Tensor:
    """The pixels, uint8 [N, H, W, C], that normalised images [N, C, H, W] were made of."""
    assert normalisation is not None  # as `OfPixels` sees to
    scale, shift = scale_and_shift(normalisation, images.device)
    return ((images - shift) / scale).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def by_pixels(
    probabilities: Callable[[torch.Tensor], torch.Tensor], normalisation: Normalisation | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """What reads pixels and tells probabilities, as what reads normalised images and tells their logarithms."""
    smallest = torch.finfo(torch.float32).tiny
    return lambda images: probabilities(pixels_of(images, normalisation)).clamp_min(smallest).log()
