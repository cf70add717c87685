"""Networks of inverted residual blocks, as MobileNetV2 and those that were searched after it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, Field
from torch import nn

from nasdistill.component import Options
from nasdistill.data.base import Shape
from nasdistill.models.base import MODELS
from nasdistill.models.layers import Depthwise, draw_weights
from nasdistill.models.limits import MOST_CELLS, odd, require_images
from nasdistill.models.scalable import Scalable, Unit

_V2 = re.compile(r"mobilenet-v2-(\d+(?:\.\d+)?)", re.IGNORECASE | re.ASCII)
_V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride."""
MOST_TIMES = 100.0
"""By which a shorthand can multiply the published widths."""


class MobileStage(Options):
    """Blocks of one width, the first of which has the stride."""

    kernel: Annotated[int, AfterValidator(odd)] = Field(
        3, gt=0, description="side of the depthwise convolutions' kernels; odd"
    )
    expansion: int = Field(6, gt=0, description="channels within a block, as a multiple of those that it reads")
    width: int = Field(gt=0, description="channels that each block gives")
    depth: int = Field(1, gt=0, le=MOST_CELLS, description="blocks")
    stride: int = Field(1, ge=1, le=2, description="of the first block; 2 halves the resolution")


@MODELS.register("mobilenet")
class MobileNet(Scalable):
    """Stages of inverted residual blocks, each with a kernel, an expansion, a width and a depth of its own.

    Shorthand: `mobilenet-v2-WIDTH`, e.g. `mobilenet-v2-0.5`: MobileNetV2 as in tables of teachers and students of 32
    pixels, whose resolution halves four times instead of five.
    """

    source: ClassVar[str] = "Sandler et al. 2018, MobileNetV2 (arXiv:1801.04381), section 4"

    stem: int = Field(32, gt=0, description="channels of the first convolution")
    stem_stride: int = Field(2, ge=1, le=2, description="stride of the first convolution; 1 for small images")
    stages: tuple[MobileStage, ...] = Field(min_length=1, description="the blocks")
    head: int = Field(1280, gt=0, description="channels of the last convolution, which the classifier reads")
    dropout: float = Field(0.2, ge=0, lt=1, description="probability of dropping a value before the classifier")

    @classmethod
    def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
        match = _V2.fullmatch(text)
        width = float(match[1]) if match else 0.0
        if not 0 < width <= MOST_TIMES:
            return None
        stages = [
            {"expansion": expansion, "width": max(1, int(width * channels)), "depth": depth, "stride": stride}
            for expansion, channels, depth, stride in _V2_STAGES
        ]
        return {"stem": max(1, int(32 * width)), "stages": stages, "head": int(1280 * max(1.0, width)), "dropout": 0.0}

    def build(self, shape: Shape, classes: int) -> nn.Module:
        require_images("MobileNet", shape)
        return MobileNetwork(self, shape[0], classes)

    def units(self) -> tuple[Unit, ...]:
        """The stem, each stage, and the head; a stage whose first block adds what it reads is one with the one before.

        Within blocks there are `expansion` times as many channels.
        """
        stages = (Unit(f"stages.{at}", stage.width) for at, stage in enumerate(self.stages) if not self._adds(at))
        return (Unit("stem", self.stem), *stages, Unit("head", self.head))

    def with_widths(self, widths: Mapping[str, int]) -> MobileNet:
        found = {unit.name: widths.get(unit.name, unit.width) for unit in self.units()}
        width, stages = found["stem"], []
        for at, stage in enumerate(self.stages):
            width = found.get(f"stages.{at}", width)
            stages.append({**stage.model_dump(), "width": width})
        return self.with_options(stem=found["stem"], stages=stages, head=found["head"])

    def _adds(self, at: int) -> bool:
        """Whether a stage's first block is residual."""
        stage, before = self.stages[at], self.stages[at - 1].width if at else self.stem
        return stage.stride == 1 and stage.width == before

    def blocks(self) -> int:
        """Of the deepest stage."""
        return max(stage.depth for stage in self.stages)

    def with_blocks(self, blocks: int) -> MobileNet:
        """Stages keep the proportions of their depths, and a block at least."""
        deepest = self.blocks()
        depths = (max(1, round(blocks * stage.depth / deepest)) for stage in self.stages)
        stages = [{**stage.model_dump(), "depth": depth} for stage, depth in zip(self.stages, depths, strict=True)]
        return self.with_options(stages=stages)

    def identity_weights(self) -> tuple[str, ...]:
        """The batch norms that end the branches."""
        norms = (3 if stage.expansion > 1 else 2 for stage in self.stages)
        return tuple(f"stages.{number}.*.branch.{norm}.weight" for number, norm in enumerate(norms))


class ConvNormReLU6(nn.Sequential):
    """Convolution, batch norm, ReLU6."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU6())


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise convolution, 1x1 convolution; plus the input, where it fits.

    An expansion of 1 leaves the first convolution out.
    """

    def __init__(self, channels: int, stage: MobileStage, stride: int) -> None:
        super().__init__()
        hidden = stage.expansion * channels
        expand = [ConvNormReLU6(nn.Conv2d(channels, hidden, 1, bias=False))] if stage.expansion > 1 else []
        self.branch = nn.Sequential(
            *expand,
            ConvNormReLU6(Depthwise(hidden, stage.kernel, stride)),
            nn.Conv2d(hidden, stage.width, 1, bias=False),
            nn.BatchNorm2d(stage.width),
        )
        self.residual = stride == 1 and channels == stage.width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.branch(images)
        return images + outputs if self.residual else outputs


class MobileNetwork(nn.Module):
    """Stem, stages, 1x1 convolution, global average, dropout, linear.

    The feature points are the ends of the stages before each loss of resolution, and the last convolution.
    """

    def __init__(self, model: MobileNet, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = ConvNormReLU6(nn.Conv2d(channels, model.stem, 3, model.stem_stride, padding=1, bias=False))
        widths = [model.stem, *(stage.width for stage in model.stages)]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    InvertedResidual(before, stage, stage.stride),
                    *(InvertedResidual(stage.width, stage, 1) for _ in range(stage.depth - 1)),
                )
                for before, stage in zip(widths, model.stages, strict=False)
            )
        )
        self.head = ConvNormReLU6(nn.Conv2d(widths[-1], model.head, 1, bias=False))
        self.dropout = nn.Dropout(model.dropout)
        self.classifier = nn.Linear(model.head, classes)
        ends = (f"stages.{at}" for at, following in enumerate(model.stages[1:]) if following.stride == 2)
        self.feature_points = (*ends, "head")
        draw_weights(self, "fan_out")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.head(self.stages(self.stem(images)))
        logits: torch.Tensor = self.classifier(self.dropout(features.mean(dim=(2, 3))))
        return logits
