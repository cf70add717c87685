"""VGG networks for small images: batch norm, one linear layer."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.models.base import MODELS, Model
from nasdistill.models.layers import draw_weights
from nasdistill.models.limits import require_images

_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Of each group, by depth."""


@MODELS.register("vgg")
class VGG(Model):
    """Five groups of 3x3 convolutions, as tables of teachers and students have them. Shorthand: `vgg-DEPTH`.

    Resolution halves behind each of the first three groups, so that the last two of a 32x32 image work on 4x4.
    """

    source: ClassVar[str] = (
        "Simonyan and Zisserman 2015, Very Deep Convolutional Networks (arXiv:1409.1556), table 1; the form for small "
        "images of Tian et al. 2020, Contrastive Representation Distillation (arXiv:1910.10699)"
    )
    shorthand: ClassVar[str] = r"vgg-(?P<depth>\d+)"

    depth: Literal[8, 11, 13, 16, 19] = Field(
        13,
        description="layers as the paper counts them: convolutions, and three linear ones, which are a single one here",
    )

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images("VGG for small images", shape, smallest=8)
        return VGGNetwork(_CONVOLUTIONS[self.depth], shape[0], classes)


class Convolutions(nn.Sequential):
    """conv-BN-ReLU, so many times."""

    def __init__(self, channels_in: int, channels_out: int, convolutions: int) -> None:
        layers: list[nn.Module] = []
        for channels in (channels_in, *[channels_out] * (convolutions - 1)):
            layers += [
                nn.Conv2d(channels, channels_out, 3, padding=1),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(),
            ]
        super().__init__(*layers)


class VGGNetwork(nn.Module):
    """Groups with max pooling between, global average, linear.

    The feature points are the last outputs of each resolution.
    """

    feature_points = ("groups.0", "groups.1", "groups.2", "groups.4")

    def __init__(self, convolutions: tuple[int, ...], channels: int, classes: int) -> None:
        super().__init__()
        self.groups = nn.ModuleList(
            Convolutions(before, after, count)
            for before, after, count in zip((channels, *_WIDTHS), _WIDTHS, convolutions, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(_WIDTHS[-1], classes)
        draw_weights(self, "fan_out")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = images
        for number, group in enumerate(self.groups):
            features = group(self.pool(features) if 0 < number < 4 else features)
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits
