"""The wide residual networks of Alfano's report, which differ from the published ones."""

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
from nasdistill.models.layers import groups_of_blocks
from nasdistill.models.limits import one_of_depths, require_images

_FAMILY = "wide ResNet"


@MODELS.register("alfano-wrn")
class AlfanoWideResNet(GroupedModel):
    """`wrn` with BN and ReLU before the stem, a 1x1 convolution to 16*width after it, and none after the last group.

    The other differences: convolutions have biases, a shortcut stands only where the resolution halves and reads the
    raw input, and weights are drawn as by Keras. Shorthand: `alfano-wrn-DEPTH-WIDTH`, e.g. `alfano-wrn-28-1`.
    """

    source: ClassVar[str] = "Alfano 2020, From Knowledge Distillation to BAN, and its released code, WideResNet.py"
    shorthand: ClassVar[str] = r"alfano-wrn-(?P<depth>\d+)-(?P<width>\d+)"
    other_layers: ClassVar[int] = 4

    depth: Annotated[int, one_of_depths(_FAMILY, layers=6, fixed=4)] = Field(
        28, description="layers, 6n+4 for n blocks in each of the three groups; the 1x1 convolution does not count"
    )
    width: int = Field(1, gt=0, description="channels of the three groups, as a multiple of 16, 32 and 64")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a value inside a block, e.g. 0.3")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images(_FAMILY, shape, smallest=4)
        return AlfanoWideResNetwork(self.blocks(), self.group_widths(), self.dropout, shape[0], classes)

    def identity_weights(self) -> tuple[str, ...]:
        return ("groups.*.conv2.weight",)

    def published_widths(self) -> Widths:
        return (16, 16 * self.width, 32 * self.width, 64 * self.width)


class Block(nn.Module):
    """BN-ReLU-conv-dropout-BN-ReLU-conv, plus the input, through a strided 1x1 convolution where the stride is 2."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        branch = self.dropout(self.conv1(functional.relu(self.norm1(inputs))))
        summed: torch.Tensor = self.conv2(functional.relu(self.norm2(branch))) + self.shortcut(inputs)
        return summed


class AlfanoWideResNetwork(nn.Module):
    """BN-ReLU, stem, 1x1 convolution, three groups of blocks, global average, linear.

    The feature points are the outputs of the groups.
    """

    feature_points = ("groups.0", "groups.1", "groups.2")

    def __init__(self, blocks: int, widths: Widths, dropout: float, channels: int, classes: int) -> None:
        super().__init__()
        stem, *groups = widths
        self.norm = nn.BatchNorm2d(channels)
        self.stem = nn.Conv2d(channels, stem, 3, padding=1)
        self.widening = nn.Conv2d(stem, groups[0], 1)
        self.groups = groups_of_blocks(partial(Block, dropout=dropout), blocks, (groups[0], *groups))
        self.classifier = nn.Linear(widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.widening(self.stem(functional.relu(self.norm(images))))
        for group in self.groups:
            features = group(features)
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits
