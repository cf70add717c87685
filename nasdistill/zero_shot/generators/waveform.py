"""The generator of waveforms: a vector, a short map, and four times its length twice."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.limits import require_waveforms
from nasdistill.zero_shot.generators import GENERATORS, Generator

GROWTH = 4
"""By how much a map is longer than the one before."""


@GENERATORS.register("waveform")
class Waveform(Generator):
    """The layers of `convolutional` along time alone, for shapes of channels x 1 x samples.

    A linear layer makes a map of a sixteenth of the length; before each of the first two convolutions it becomes four
    times as long.
    """

    source: ClassVar[str] = (
        "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), for the layers; "
        "Donahue, McAuley, Puckette, Adversarial Audio Synthesis (2019), for a factor of 4 and kernels of 25"
    )

    latents: int = Field(100, gt=0, description="numbers that each waveform is made from")
    channels: int = Field(128, gt=1, description="of the first two maps; the third has half as many")
    kernel: int = Field(25, gt=0, description="samples that a convolution reads, an odd number")
    slope: float = Field(0.2, ge=0, description="of leaky ReLU below 0")

    @field_validator("kernel")
    @classmethod
    def _has_a_middle(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise SpecError(f"a kernel of {kernel} has no middle; {kernel - 1} and {kernel + 1} have one")
        return kernel

    def latent(self, shape: Shape) -> int:
        return self.latents

    def build(self, shape: Shape, images: int) -> nn.Module:
        require_waveforms("generator of waveforms", shape, shortest=1)
        return WaveformGenerator(self.latents, self.channels, self.kernel, self.slope, shape)


class WaveformGenerator(nn.Sequential):
    """Linear, BN, up, conv, BN, leaky ReLU, up, conv, BN, leaky ReLU, conv, BN.

    Maps are enlarged to the nearest neighbour, the second time to the waveform's length, whatever that is.
    """

    def __init__(self, latents: int, channels: int, kernel: int, slope: float, shape: Shape) -> None:
        samples = shape[2]
        middle = -(-samples // GROWTH)
        first = -(-middle // GROWTH)

        def convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
            return nn.Conv2d(channels_in, channels_out, (1, kernel), padding=(0, kernel // 2))

        super().__init__(
            nn.Linear(latents, channels * first),
            nn.Unflatten(1, (channels, 1, first)),
            nn.BatchNorm2d(channels),
            nn.Upsample((1, middle)),
            convolution(channels, channels),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(slope),
            nn.Upsample((1, samples)),
            convolution(channels, channels // 2),
            nn.BatchNorm2d(channels // 2),
            nn.LeakyReLU(slope),
            convolution(channels // 2, shape[0]),
            nn.BatchNorm2d(shape[0]),
        )
