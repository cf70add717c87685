"""A generator that is told which class each image should have."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.zero_shot.generators import GENERATORS
from nasdistill.zero_shot.generators.convolutional import Convolutional


@GENERATORS.register("conditional")
class Conditional(Convolutional):
    """The layers of `convolutional`, which read the class beside the latents: one-hot, or an embedding that is learned.

    The classes are drawn evenly for each pseudo-batch; the loss `class-prior` asks the teacher whether it sees them.
    """

    source = (
        "Mirza, Osindero, Conditional Generative Adversarial Nets (2014); without data, one-hot beside latents: Yoo et "
        "al., Knowledge Extraction with No Observable Data (2019)"
    )
    told_classes: ClassVar[bool] = True

    embedding: int | None = Field(
        None, gt=0, description="numbers that stand for a class, which are learned; by default (null) it is one-hot"
    )

    def build(self, shape: Shape, images: int, classes: int) -> nn.Module:
        layers = self._layers(self.latents + (self.embedding or classes), shape)
        return ConditionalGenerator(classes, self.embedding, layers)


class ConditionalGenerator(nn.Module):
    """From latents, [N, latents], and classes, int64, [N], to images.

    Args:
        embedding: numbers that stand for a class; None for a one-hot row.
        layers: read the latents, and behind them what stands for the class.
    """

    def __init__(self, classes: int, embedding: int | None, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        if embedding is None:
            self.register_buffer("table", torch.eye(classes), persistent=False)
        else:
            self.table = nn.Parameter(torch.randn(classes, embedding))

    def forward(self, latents: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.layers(torch.cat([latents, functional.embedding(targets, self.table)], dim=1))
        return images
