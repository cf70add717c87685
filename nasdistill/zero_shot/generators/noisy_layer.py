"""The generator of NAYER, which has its noise in a layer in place of latents."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.zero_shot.generators import GENERATORS, Generator
from nasdistill.zero_shot.generators.convolutional import ConvolutionalGenerator, growing_sizes
from nasdistill.zero_shot.of_one_batch import NoisyLayers


@GENERATORS.register("noisy-layer")
class NoisyLayer(Generator):
    """From classes to pixels through linear layers that are drawn anew for each pseudo-batch; there are no latents.

    A layer makes one image of each class, so that a pseudo-batch has as many layers as images of a class; all classes
    are equally often in it. Classes are one-hot, where NAYER has a language model's embeddings of their names. Behind
    the layers are those of `convolutional`, which learn on from batch to batch, with a sigmoid.
    """

    source = (
        "Tran et al., NAYER: Noisy Layer Data Generation for Efficient and Effective Data-free Knowledge Distillation "
        "(2024), and its released code"
    )
    told_classes: ClassVar[bool] = True
    even_classes: ClassVar[bool] = True

    width: int = Field(1000, gt=0, description="numbers that a noisy layer makes of a class, as in the released code")
    channels: int = Field(128, gt=1, description="of the first two maps; the third has half as many")
    slope: float = Field(0.2, ge=0, description="of leaky ReLU below 0")

    @property
    def makes_pixels(self) -> bool:
        return True

    def latent(self, shape: Shape) -> int:
        return 0

    def build(self, shape: Shape, images: int, classes: int) -> nn.Module:
        layers = ConvolutionalGenerator(
            self.width, self.channels, growing_sizes(shape), shape[0], self.slope, kernel=(3, 3), sigmoid=True
        )
        return NoisyGenerator(NoisyLayers(-(-images // classes), classes, classes, self.width), layers, classes)


class NoisyGenerator(nn.Module):
    """From classes, int64, [N], each of which comes once in every round of all, to images; latents are not read."""

    table: torch.Tensor

    def __init__(self, noisy: NoisyLayers, layers: nn.Module, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(classes)
        self.noisy = noisy
        self.layers = layers
        self.register_buffer("table", torch.eye(classes), persistent=False)

    def forward(self, latents: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.layers(self.noisy(self.norm(functional.embedding(targets, self.table))))
        return images
