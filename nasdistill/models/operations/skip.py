"""Skip connections; where the resolution halves, a factorised reduce."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from nasdistill.models.operations import OPERATIONS, Operation


class FactorizedReduce(nn.Module):
    """Halves the resolution without losing a pixel parity: two 1x1 convolutions of stride 2, one shifted by a pixel.

    [N, in_channels, H, W] to [N, out_channels, ceil(H/2), ceil(W/2)]. The stride is taken before the convolution, which
    is the same function: oneDNN's strided 1x1 kernels write past their buffers where channels are few (torch 2.14.1 on
    AVX2).
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels - half, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(x)
        # An odd side gets one more pixel, so that both convolutions see equally many.
        shifted = functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        pixels = self.conv1(x[:, :, ::2, ::2]), self.conv2(shifted[:, :, ::2, ::2])
        return self.norm(torch.cat(pixels, dim=1))  # type: ignore[no-any-return]


@OPERATIONS.register("skip_connect")
class SkipConnect(Operation):
    """The identity; at stride 2 a factorised reduce."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS, section 3.1 and released code"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
