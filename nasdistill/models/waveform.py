"""Networks that read waveforms: one-dimensional convolutions over the raw samples."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS, Model
from nasdistill.models.limits import require_waveforms

KERNEL, STRIDE, POOL = 80, 4, 4


class Layers(NamedTuple):
    """A row of the paper's table 1.

    Attributes:
        groups: convolutions of each group, and their channels as a multiple of the width.
        last_pool: whether maxima are taken once more before the average.
    """

    groups: tuple[tuple[int, int], ...]
    last_pool: bool


PUBLISHED = {
    3: Layers(((1, 1),), last_pool=True),
    5: Layers(((1, 1), (1, 2), (1, 4)), last_pool=True),
    11: Layers(((2, 1), (2, 2), (3, 4), (2, 8)), last_pool=False),
    18: Layers(((4, 1), (4, 2), (4, 4), (4, 8)), last_pool=False),
}
"""The published networks M3, M5, M11 and M18, by their layers."""


@MODELS.register("wave-cnn")
class WaveCNN(Model):
    """One-dimensional convolutions over a waveform of [C, 1, samples]. Shorthand: `wave-DEPTH-WIDTH`, e.g. `wave-5-32`.

    The published networks for sound at 8 kHz are M3 = `wave-3-256`, M5 = `wave-5-128`, M11 = `wave-11-64` and
    M18 = `wave-18-64`.
    """

    source: ClassVar[str] = "Dai et al. 2016, Very Deep Convolutional Neural Networks for Raw Waveforms, table 1"
    shorthand: ClassVar[str] = r"wave-(?P<depth>\d+)-(?P<width>\d+)"

    depth: int = Field(5, description="layers, as many as M3, M5, M11 or M18 have: 3, 5, 11 or 18")
    width: int = Field(128, gt=0, description="channels of the first layers; they double from group to group")

    @field_validator("depth")
    @classmethod
    def _depth_exists(cls, depth: int) -> int:
        if depth not in PUBLISHED:
            *most, last = PUBLISHED
            raise SpecError(f"a waveform network has {', '.join(map(str, most))} or {last} layers, not {depth}")
        return depth

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_waveforms("waveform network", shape, shortest=STRIDE)
        return WaveNetwork(PUBLISHED[self.depth], self.width, shape[0], classes)


class Convolution(nn.Sequential):
    """Convolution along time, BN, ReLU; the length is divided by the stride."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        padding = (kernel - stride) // 2
        super().__init__(
            nn.Conv2d(channels_in, channels_out, (1, kernel), (1, stride), (0, padding), bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        )


class Pool(nn.MaxPool2d):
    """The maximum of each four samples; also of what is left at the end."""

    def __init__(self) -> None:
        super().__init__((1, POOL), ceil_mode=True)


class WaveNetwork(nn.Module):
    """Stem, groups of convolutions with a pool before each, global average, linear.

    The feature points are the outputs of the groups, maps of height 1.
    """

    def __init__(self, layers: Layers, width: int, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = Convolution(channels, width, KERNEL, STRIDE)
        self.groups = nn.ModuleList()
        before = width
        for count, factor in layers.groups:
            after = factor * width
            convolutions = (Convolution(after if k else before, after, 3) for k in range(count))
            self.groups.append(nn.Sequential(Pool(), *convolutions))
            before = after
        self.feature_points = tuple(f"groups.{group}" for group in range(len(self.groups)))
        self.pool = Pool() if layers.last_pool else nn.Identity()
        self.classifier = nn.Linear(before, classes)
        self._draw_weights()

    def _draw_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        features = self.stem(waveforms)
        for group in self.groups:
            features = group(features)
        logits: torch.Tensor = self.classifier(self.pool(features).mean(dim=(2, 3)))
        return logits
