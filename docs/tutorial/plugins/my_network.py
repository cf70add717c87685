"""A model that is a stack of convolutions, and an operation for the edges of cells."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.models.base import MODELS, Model
from nasdistill.models.operations import OPERATIONS, Operation


class Residual(nn.Sequential):
    """Adds its input to what its layers make of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + made


@MODELS.register("conv-mixer")
class ConvMixer(Model):
    """Patches, then blocks of a depthwise convolution, which mixes places, and a 1x1 one, which mixes channels."""

    source = "Trockman and Kolter 2022, Patches Are All You Need? (arXiv:2201.09792)"

    width: int = Field(256, gt=0, description="channels")
    depth: int = Field(8, gt=0, description="blocks")
    kernel: int = Field(9, gt=0, description="side of the depthwise convolutions")
    patch: int = Field(1, gt=0, description="side of a patch")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        def block() -> nn.Module:
            depthwise = nn.Conv2d(self.width, self.width, self.kernel, padding="same", groups=self.width)
            spatial = Residual(depthwise, nn.GELU(), nn.BatchNorm2d(self.width))
            return nn.Sequential(spatial, nn.Conv2d(self.width, self.width, 1), nn.GELU(), nn.BatchNorm2d(self.width))

        patches = nn.Conv2d(shape[0], self.width, self.patch, stride=self.patch)
        stem = nn.Sequential(patches, nn.GELU(), nn.BatchNorm2d(self.width))
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.width, classes))
        return nn.Sequential(stem, *(block() for _ in range(self.depth)), head)


@OPERATIONS.register("inverted_residual_3x3")
class InvertedResidual3x3(Operation):
    """Widens, filters each channel by a depthwise 3x3 convolution, narrows; adds the input where the size stays."""

    source = "Sandler et al. 2018, MobileNetV2 (arXiv:1801.04381)"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        wide = 3 * channels
        layers = (
            *(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide, affine=affine), nn.ReLU6()),
            nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide, bias=False),
            *(nn.BatchNorm2d(wide, affine=affine), nn.ReLU6()),
            *(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels, affine=affine)),
        )
        return Residual(*layers) if stride == 1 else nn.Sequential(*layers)
