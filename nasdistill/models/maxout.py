"""Maxout networks: the students of FitNets, and their teachers."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import nn

from nasdistill.component import Options
from nasdistill.data.base import Shape
from nasdistill.errors import SpecError, UserError, unknown
from nasdistill.models.base import MODELS, Model
from nasdistill.models.limits import require_images

Layers = list[dict[str, Any]]


class MaxoutLayer(Options):
    """A convolution, its maxout, and a pool if there is one."""

    channels: int = Field(gt=0, description="what is left of the pieces")
    kernel: int = Field(3, gt=0, description="side of the kernel")
    padding: int = Field(1, ge=0, description="zeros added to each side")
    pool: int | None = Field(None, ge=0, description="side of the maximum pool's windows; 0: one window of all places")
    stride: int | None = Field(None, gt=0, description="between two windows; by default they do not overlap")

    def places(self, side: int) -> int:
        """How many places a side has after this layer; windows that a border cuts off count. Under 1: none."""
        side += 2 * self.padding - self.kernel + 1
        if self.pool is None or side < 1:
            return side
        if self.pool == 0:
            return 1
        stride = self.stride or self.pool
        return min(math.ceil((side - self.pool) / stride) + 1, math.ceil(side / stride))  # each begins inside


def _thin(*groups: tuple[int, ...]) -> Layers:
    """Layers of 3x3, the channels of each group; pools of 2x2 close the groups, and one of all places the last."""
    layers = [[{"channels": channels} for channels in group] for group in groups]
    for number, group in enumerate(layers, 1):
        group[-1]["pool"] = 0 if number == len(layers) else 2
    return [layer for group in layers for layer in group]


def _pooled(channels: int, kernel: int, padding: int, pool: int) -> dict[str, Any]:
    return {"channels": channels, "kernel": kernel, "padding": padding, "pool": pool, "stride": 2}


PUBLISHED: dict[str, dict[str, Any]] = {
    "fitnet-1": {"layers": _thin((16, 16, 16), (32, 32, 32), (48, 48, 64))},
    "fitnet-2": {"layers": _thin((16, 32, 32), (48, 64, 80), (96, 96, 128))},
    "fitnet-3": {"layers": _thin((32, 48, 64, 64), (80,) * 4, (128,) * 3)},
    "fitnet-4": {"layers": _thin((32, 32, 32, 48, 48), (80,) * 6, (128,) * 6)},
    "fitnet-5-layers-30m": {"layers": _thin((64,), (64,), (64,))},
    "fitnet-7-layers-30m": {"layers": _thin((16, 32), (32, 64), (64,))},
    "fitnet-9-layers-30m": {"layers": _thin((16, 32), (32, 32, 32), (48, 64))},
    "fitnet-5-layers-107m": {"layers": _thin((128,), (128,), (128,))},
    "fitnet-7-layers-107m": {"layers": _thin((32, 64), (80, 80), (128,))},
    "fitnet-9-layers-107m": {"layers": _thin((32, 32), (64, 80, 80), (96, 128))},
    "fitnet-mnist": {
        "layers": [
            {"channels": 16, "kernel": 5, "padding": 0},
            _pooled(16, 3, 0, 4),
            {"channels": 16, "kernel": 5, "padding": 3},
            _pooled(16, 3, 0, 4),
            {"channels": 12, "kernel": 3, "padding": 3},
            _pooled(12, 3, 0, 2),
        ],
        "units": 0,
    },
    "maxout-cifar": {"layers": [_pooled(96, 8, 4, 4), _pooled(192, 8, 3, 4), _pooled(192, 5, 3, 2)]},
    "maxout-mnist": {"layers": [_pooled(48, 8, 0, 4), _pooled(48, 8, 3, 4), _pooled(24, 5, 3, 2)], "units": 0},
}
"""The students of tables 6 and 7 and of MNIST, and the teachers of Goodfellow et al. 2013 for CIFAR and MNIST."""


@MODELS.register("maxout")
class Maxout(Model):
    """Convolutions, each the largest of several linear pieces, then a fully connected layer of that kind.

    The FitNets of table 7 are `fitnet-1` to `fitnet-4`, of 11, 11, 13 and 19 layers; those of table 6 are
    `fitnet-5-layers-30m`, `fitnet-9-layers-107m` and the like; `fitnet-mnist` has 6 convolutions. Their teachers are
    `maxout-cifar` and `maxout-mnist`. Weights are drawn so that the variance is kept.
    """

    source: ClassVar[str] = (
        "Romero et al. 2015, FitNets: Hints for Thin Deep Nets (arXiv:1412.6550), appendix A and its released code; "
        "Goodfellow et al. 2013, Maxout Networks (arXiv:1302.4389)"
    )

    layers: tuple[MaxoutLayer, ...] = Field(min_length=1, description="the convolutions, from the image on")
    pieces: int = Field(2, gt=0, description="linear pieces of each convolution")
    units: int = Field(500, ge=0, description="of the fully connected layer before the classifier; 0: there is none")
    unit_pieces: int = Field(
        2, gt=0, description="linear pieces of each unit: 2 gives the published sizes, 5 is what the paper's text says"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a value between two layers")

    @model_validator(mode="after")
    def _last_pool_is_last(self) -> Maxout:
        for number, layer in enumerate(self.layers[:-1]):
            if layer.pool == 0:
                raise SpecError("a pool of all places leaves one, so only the last layer has it", ("layers", number))
        return self

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        if text.lower().startswith(("fitnet-", "maxout-")) and text.lower() not in PUBLISHED:
            raise SpecError(unknown("maxout network", text, PUBLISHED))
        return PUBLISHED.get(text.lower())

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images("maxout network", shape)
        places = list(shape[1:])
        for number, layer in enumerate(self.layers, 1):
            places = [layer.places(side) for side in places]
            if min(places) < 1:
                height, width = shape[1:]
                raise UserError(f"layer {number} of this maxout network does not fit images of {height}x{width}")
        return MaxoutNetwork(self, shape[0], math.prod(places), classes)


class Largest(nn.Module):
    """The largest of each `pieces` neighbours among the channels: [N, channels * pieces, ...] to [N, channels, ...].

    Source: Goodfellow et al. 2013, Maxout Networks, section 2
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.view(len(values), -1, self.pieces, *values.shape[2:]).amax(2)


class MaxoutNetwork(nn.Module):
    """Groups of convolutions, each closed by a pool, then units if there are any, then the classifier.

    The feature points are the outputs of the groups; hints go from the middle one to the middle one, as published.
    """

    def __init__(self, options: Maxout, channels: int, places: int, classes: int) -> None:
        super().__init__()
        groups, group = [], nn.Sequential()
        for number, layer in enumerate(options.layers):
            if options.dropout and number:
                group.append(nn.Dropout(options.dropout))
            convolution = nn.Conv2d(channels, layer.channels * options.pieces, layer.kernel, padding=layer.padding)
            group.extend([convolution, Largest(options.pieces)])
            channels = layer.channels
            if layer.pool is not None:
                group.append(
                    nn.MaxPool2d(layer.pool, layer.stride, ceil_mode=True) if layer.pool else nn.AdaptiveMaxPool2d(1)
                )
            if layer.pool is not None or layer is options.layers[-1]:
                groups.append(group)
                group = nn.Sequential()
        self.groups = nn.ModuleList(groups)
        self.feature_points = tuple(f"groups.{number}" for number in range(len(groups)))
        width = channels * places
        self.head = nn.Sequential()
        if options.units:
            self.head.extend([nn.Linear(width, options.units * options.unit_pieces), Largest(options.unit_pieces)])
            width = options.units
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # the larger of two normal values has the mean square of one, so that the gain is 1
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = images
        for group in self.groups:
            features = group(features)
        logits: torch.Tensor = self.classifier(self.dropout(self.head(self.dropout(features.flatten(1)))))
        return logits
