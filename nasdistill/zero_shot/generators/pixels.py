"""The generator of DeepInversion: no network, but the pixels themselves."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.zero_shot.generators import GENERATORS, Generator


@GENERATORS.register("pixels")
class Pixels(Generator):
    """Images that are optimised pixel by pixel, anew for each pseudo-batch; the latents are the noise they start from.

    It wants many steps (`generator_steps`; published: 2000) and, with a target class for each image, the loss
    `class-prior`. Nothing is learned from one pseudo-batch for the next. With several processes each optimises its own.
    """

    source = "Yin et al., Dreaming to Distill: Data-Free Knowledge Transfer via DeepInversion (2020), and released code"
    starts_over = True

    jitter: int = Field(
        0,
        ge=0,
        description="in each step the losses see all images shifted by at most this many pixels each way, wrapped "
        "round the edges; in the released code 2 for CIFAR-10, 30 for ImageNet",
    )
    flip: bool = Field(
        False, description="and in half of the steps mirrored, as the released code can for ImageNet, not for CIFAR-10"
    )

    def latent(self, shape: Shape) -> int:
        return math.prod(shape)

    def build(self, shape: Shape, images: int, classes: int) -> nn.Module:
        return PixelGenerator(images, shape)

    def moved(self, images: torch.Tensor) -> torch.Tensor:
        # Drawn on the CPU from the generator that checkpoints hold.
        if self.jitter:
            images = images.roll(torch.randint(-self.jitter, self.jitter + 1, (2,)).tolist(), dims=(2, 3))
        return images.flip(3) if self.flip and torch.rand(()) < 0.5 else images


class PixelGenerator(nn.Module):
    """Latents plus what was learned.

    Attributes:
        offset: [images, C * H * W], what is learned, from 0 on: the images start as their latents.
    """

    def __init__(self, images: int, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.offset = nn.Parameter(torch.zeros(images, math.prod(shape)))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents + self.offset).view(-1, *self.shape)
