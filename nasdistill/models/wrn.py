"""Wide residual networks."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.base import MODELS
from nasdistill.models.grouped import GroupedModel, Widths
from nasdistill.models.layers import draw_weights, groups_of_blocks
from nasdistill.models.limits import one_of_depths, require_images

_FAMILY = "wide ResNet"


@MODELS.register("wrn")
class WideResNet(GroupedModel):
    """A residual network of few, wide, pre-activated blocks. Shorthand: `wrn-DEPTH-WIDTH`, e.g. `wrn-40-2`."""

    source: ClassVar[str] = "Zagoruyko and Komodakis 2016, Wide Residual Networks, table 1"
    shorthand: ClassVar[str] = r"wrn-(?P<depth>\d+)-(?P<width>\d+)"
    other_layers: ClassVar[int] = 4

    depth: Annotated[int, one_of_depths(_FAMILY, layers=6, fixed=4)] = Field(
        16, description="layers, 6n+4 for n blocks in each of the three groups"
    )
    width: int = Field(2, gt=0, description="channels of the three groups, as a multiple of 16, 32 and 64")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a value inside a block")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images(_FAMILY, shape, smallest=4)
        return WideResNetwork(self.blocks(), self.group_widths(), self.dropout, shape[0], classes)

    def identity_weights(self) -> tuple[str, ...]:
        return ("groups.*.conv2.weight",)

    def published_widths(self) -> Widths:
        return (16, 16 * self.width, 32 * self.width, 64 * self.width)


class Block(nn.Module):
    """BN-ReLU-conv-BN-ReLU-dropout-conv, plus the shortcut.

    Where channels or resolution change, the shortcut is a 1x1 convolution of the same activated input that the branch
    reads; elsewhere it is the raw input.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        changes = channels_in != channels_out or stride > 1
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False) if changes else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        activated = functional.relu(self.norm1(inputs))
        shortcut = inputs if self.shortcut is None else self.shortcut(activated)
        branch = functional.relu(self.norm2(self.conv1(activated)))
        summed: torch.Tensor = self.conv2(self.dropout(branch)) + shortcut
        return summed


class WideResNetwork(nn.Module):
    """Stem, three groups of blocks, BN-ReLU, global average, linear.

    The feature points are the raw outputs of the groups, before the next BN-ReLU, as attention transfer reads them.
    """

    feature_points = ("groups.0", "groups.1", "groups.2")

    def __init__(self, blocks: int, widths: Widths, dropout: float, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.groups = groups_of_blocks(partial(Block, dropout=dropout), blocks, widths)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.classifier = nn.Linear(widths[-1], classes)
        draw_weights(self, "fan_out")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stem(images)
        for group in self.groups:
            features = group(features)
        pooled = functional.relu(self.norm(features)).mean(dim=(2, 3))
        logits: torch.Tensor = self.classifier(pooled)
        return logits
