"""Densely connected networks with bottlenecks and compression (DenseNet-BC)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.base import MODELS
from nasdistill.models.layers import draw_weights
from nasdistill.models.limits import one_of_depths, require_images
from nasdistill.models.scalable import Scalable, Unit

_FAMILY = "DenseNet-BC"


@MODELS.register("densenet")
class DenseNet(Scalable):
    """A network whose layers each read all before them. Shorthand: `densenet-DEPTH-GROWTH`, e.g. `densenet-100-12`."""

    source: ClassVar[str] = "Huang et al. 2017, Densely Connected Convolutional Networks, sections 3 and 4.2"
    shorthand: ClassVar[str] = r"densenet-(?P<depth>\d+)-(?P<growth>\d+)"

    depth: Annotated[int, one_of_depths(_FAMILY, layers=6, fixed=4)] = Field(
        100, description="layers, 6n+4 for n bottlenecked layers in each of the three blocks"
    )
    growth: int = Field(12, gt=0, description="channels that each layer adds")
    compression: float = Field(0.5, gt=0, le=1, description="fraction of the channels that is kept between two blocks")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a value that a layer adds")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images(_FAMILY, shape, smallest=4)
        return DenseNetwork(self.blocks(), self.growth, self.compression, self.dropout, shape[0], classes)

    def units(self) -> tuple[Unit, ...]:
        return (Unit("growth", self.growth),)

    def with_widths(self, widths: Mapping[str, int]) -> DenseNet:
        return self.with_options(growth=widths.get("growth", self.growth))

    def blocks(self) -> int:
        """Layers of each block."""
        return (self.depth - 4) // 6

    def with_blocks(self, blocks: int) -> DenseNet:
        return self.with_options(depth=6 * blocks + 4)

    def identity_weights(self) -> tuple[str, ...]:
        """None: what a layer adds lies beside what it reads, and need not be read."""
        return ()


class Layer(nn.Module):
    """BN-ReLU-conv1x1 to four times the growth, BN-ReLU-conv3x3 to the growth; concatenated to the input."""

    def __init__(self, channels: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        bottleneck = self.conv1(functional.relu(self.norm1(inputs)))
        added = self.dropout(self.conv2(functional.relu(self.norm2(bottleneck))))
        return torch.cat([inputs, added], dim=1)


class Transition(nn.Sequential):
    """Between two blocks: BN-ReLU-conv1x1 to fewer channels, and half the resolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.BatchNorm2d(channels_in),
            nn.ReLU(),
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.AvgPool2d(2),
        )


class DenseNetwork(nn.Module):
    """Stem, three dense blocks with transitions between, BN-ReLU, global average, linear.

    The feature points are the outputs of the blocks.
    """

    feature_points = ("features.0", "features.2", "features.4")

    def __init__(
        self, layers: int, growth: int, compression: float, dropout: float, channels: int, classes: int
    ) -> None:
        super().__init__()
        width = 2 * growth
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.features = nn.Sequential()
        for block in range(3):
            if block > 0:
                kept = max(1, int(width * compression))
                self.features.append(Transition(width, kept))
                width = kept
            self.features.append(nn.Sequential(*(Layer(width + i * growth, growth, dropout) for i in range(layers))))
            width += layers * growth
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, classes)
        draw_weights(self, "fan_in")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.features(self.stem(images))
        pooled = functional.relu(self.norm(features)).mean(dim=(2, 3))
        logits: torch.Tensor = self.classifier(pooled)
        return logits
