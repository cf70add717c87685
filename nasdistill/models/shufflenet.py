"""ShuffleNets for small images: grouped 1x1 convolutions whose channels are shuffled between groups."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.base import MODELS, Model
from nasdistill.models.layers import Depthwise, draw_weights
from nasdistill.models.limits import require_images

_STEM = 24
_BLOCKS = (4, 8, 4)
_WIDTHS = (240, 480, 960)
_GROUPS = 3


@MODELS.register("shufflenet")
class ShuffleNet(Model):
    """The first ShuffleNet, of three groups, as tables of teachers and students have it.

    Its stem is a 1x1 convolution that keeps the resolution, without pooling, and depthwise convolutions are followed by
    a ReLU, which the paper leaves out. For ShuffleNetV2 give torchvision's `shufflenet_v2_x1_0` a `stem` of 1.
    """

    source: ClassVar[str] = (
        "Zhang et al. 2018, ShuffleNet (arXiv:1707.01083), table 1; the form for small images of Tian et al. 2020, "
        "Contrastive Representation Distillation (arXiv:1910.10699)"
    )

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images("ShuffleNet for small images", shape, smallest=8)
        return ShuffleNetwork(shape[0], classes)


class Block(nn.Module):
    """Grouped 1x1 convolution, shuffle, depthwise, grouped 1x1; plus the input or, where it halves, beside it."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        added = channels_out - channels_in if stride > 1 else channels_out
        hidden = added // 4
        self.groups = 1 if channels_in == _STEM else _GROUPS  # the stem's channels are too few for groups
        self.conv1 = nn.Conv2d(channels_in, hidden, 1, groups=self.groups, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = Depthwise(hidden, 3, stride)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, added, 1, groups=_GROUPS, bias=False)
        self.norm3 = nn.BatchNorm2d(added)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        branch = functional.relu(self.norm1(self.conv1(inputs)))
        branch = torch.unflatten(branch, 1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)  # each group reads of all
        branch = functional.relu(self.norm2(self.conv2(branch)))
        branch = self.norm3(self.conv3(branch))
        if self.pool is None:
            return functional.relu(branch + inputs)
        return functional.relu(torch.cat([branch, self.pool(inputs)], dim=1))


class ShuffleNetwork(nn.Module):
    """Stem, three stages of blocks whose first halves the resolution, global average, linear.

    The feature points are the outputs of the stages.
    """

    feature_points = ("stages.0", "stages.1", "stages.2")

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, _STEM, 1, bias=False)
        self.norm = nn.BatchNorm2d(_STEM)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(Block(before, after, 2), *(Block(after, after, 1) for _ in range(blocks - 1)))
                for before, after, blocks in zip((_STEM, *_WIDTHS), _WIDTHS, _BLOCKS, strict=False)
            )
        )
        self.classifier = nn.Linear(_WIDTHS[-1], classes)
        draw_weights(self, "fan_out")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stages(functional.relu(self.norm(self.stem(images))))
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits
