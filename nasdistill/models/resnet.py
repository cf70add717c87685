"""Residual networks for small images."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.base import MODELS
from nasdistill.models.grouped import GroupedModel, Widths
from nasdistill.models.layers import draw_weights, groups_of_blocks, strided
from nasdistill.models.limits import one_of_depths, require_images

_FAMILY = "ResNet for small images"

Shortcut = Literal["pad", "project"]


@MODELS.register("resnet")
class ResNet(GroupedModel):
    """A residual network with three groups of 16, 32 and 64 channels, or times as many.

    Shorthand: `resnet-DEPTH` or `resnet-DEPTHxWIDTH`, e.g. `resnet-56`, `resnet-8x4`.
    """

    source: ClassVar[str] = "He et al. 2016, Deep Residual Learning for Image Recognition, section 4.2"
    shorthand: ClassVar[str] = r"resnet-(?P<depth>\d+)(?:x(?P<width>\d+))?"
    other_layers: ClassVar[int] = 2

    depth: Annotated[int, one_of_depths(_FAMILY, layers=6, fixed=2)] = Field(
        20, description="layers, 6n+2 for n blocks in each of the three groups"
    )
    width: int = Field(
        1,
        gt=0,
        description="channels of the three groups, as a multiple of 16, 32 and 64; the stem of a widened network has "
        "half as many as its first group, at least 16",
    )
    shortcut: Shortcut = Field(
        "pad",
        description="where channels double: pad with zeros (option A, as published for CIFAR) or project (option B, "
        "as in tables of teachers and students)",
    )

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images(_FAMILY, shape, smallest=4)
        return ResidualNetwork(self.blocks(), self.group_widths(), self.shortcut, shape[0], classes)

    def identity_weights(self) -> tuple[str, ...]:
        return ("groups.*.norm2.weight",)

    def reason_not_to_copy(self) -> str | None:
        if self.shortcut == "project":
            return None
        return (
            "no channel of a 'resnet' can be copied where zeros pad its shortcuts, as they tie it to the place of "
            "another; `shortcut: project` has weights there"
        )

    def published_widths(self) -> Widths:
        return (max(16, 8 * self.width), 16 * self.width, 32 * self.width, 64 * self.width)


class PadShortcut(nn.Module):
    """Every `stride`-th pixel, with the missing channels zero; it has no parameters."""

    def __init__(self, missing_channels: int, stride: int) -> None:
        super().__init__()
        self.missing_channels = missing_channels
        self.stride = stride

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        before = self.missing_channels // 2
        after = self.missing_channels - before
        return functional.pad(strided(inputs, self.stride), (0, 0, 0, 0, before, after))


class ProjectShortcut(nn.Sequential):
    """A 1x1 convolution and BN."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
            nn.BatchNorm2d(channels_out),
        )


class Block(nn.Module):
    """conv-BN-ReLU-conv-BN, plus the shortcut, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out or stride > 1:
            self.shortcut = (
                PadShortcut(channels_out - channels_in, stride)
                if shortcut == "pad"
                else ProjectShortcut(channels_in, channels_out, stride)
            )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        branch = functional.relu(self.norm1(self.conv1(inputs)))
        return functional.relu(self.norm2(self.conv2(branch)) + self.shortcut(inputs))


class ResidualNetwork(nn.Module):
    """Stem, three groups of blocks, global average, linear; the feature points are the outputs of the groups."""

    feature_points = ("groups.0", "groups.1", "groups.2")

    def __init__(self, blocks: int, widths: Widths, shortcut: Shortcut, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.groups = groups_of_blocks(partial(Block, shortcut=shortcut), blocks, widths)
        self.classifier = nn.Linear(widths[-1], classes)
        draw_weights(self, "fan_out")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = functional.relu(self.norm(self.stem(images)))
        for group in self.groups:
            features = group(features)
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits
