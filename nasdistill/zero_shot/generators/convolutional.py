"""The generator of zero-shot transfer: a vector, a small map, and twice its size twice."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.zero_shot.generators import GENERATORS, Generator

REDUCTION = 4
"""By how much the first map is smaller than the image, in height and in width."""


@GENERATORS.register("convolutional")
class Convolutional(Generator):
    """A linear layer to a map of a quarter of the image's size, then convolutions between which the map grows.

    The first two convolutions are followed by batch norm and leaky ReLU. There is no tanh by default: images lie in
    normalised space, and the batch norm behind the last convolution keeps them there. 1,051,145 parameters for 3x32x32
    images.
    """

    source = "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), released code"

    latents: int = Field(100, gt=0, description="numbers that each image is made from")
    channels: int = Field(128, gt=1, description="of the first two maps; the third has half as many")
    slope: float = Field(0.2, ge=0, description="of leaky ReLU below 0")
    last_affine: bool = Field(
        True, description="let the last batch norm learn scale and shift; an earlier release of the code did not"
    )
    tanh: bool = Field(
        False, description="squash values by tanh before the last batch norm, as the generators of DAFL and DFAD do"
    )
    spectral_norm: bool = Field(
        False,
        description="divide the weights of the linear layer and of all convolutions by their largest singular "
        "value (Miyato et al. 2018)",
    )

    def latent(self, shape: Shape) -> int:
        return self.latents

    def build(self, shape: Shape, images: int) -> nn.Module:
        network = ConvolutionalGenerator(self.latents, self.channels, shape, self.slope, self.last_affine, self.tanh)
        if self.spectral_norm:
            for module in list(network.modules()):
                if isinstance(module, nn.Linear | nn.Conv2d):
                    nn.utils.parametrizations.spectral_norm(module)
        return network


class ConvolutionalGenerator(nn.Module):
    """Linear, BN, up, conv, BN, leaky ReLU, up, conv, BN, leaky ReLU, conv, (tanh,) BN.

    Maps are enlarged to the nearest neighbour, the second time to the image's size, whatever that is.
    """

    def __init__(
        self, latents: int, channels: int, shape: Shape, slope: float, last_affine: bool, tanh: bool = False
    ) -> None:
        super().__init__()
        self.size = shape[1:]
        self.first = (channels, -(-shape[1] // REDUCTION), -(-shape[2] // REDUCTION))
        self.slope = slope
        self.tanh = tanh
        self.linear = nn.Linear(latents, channels * self.first[1] * self.first[2])
        self.norm0 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels // 2)
        self.conv3 = nn.Conv2d(channels // 2, shape[0], 3, padding=1)
        self.norm3 = nn.BatchNorm2d(shape[0], affine=last_affine)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        height, width = self.size
        maps = self.norm0(self.linear(latents).view(-1, *self.first))
        maps = functional.interpolate(maps, size=(-(-height // 2), -(-width // 2)))
        maps = functional.leaky_relu(self.norm1(self.conv1(maps)), self.slope)
        maps = functional.interpolate(maps, size=(height, width))
        maps = functional.leaky_relu(self.norm2(self.conv2(maps)), self.slope)
        maps = self.conv3(maps)
        images: torch.Tensor = self.norm3(maps.tanh() if self.tanh else maps)
        return images
