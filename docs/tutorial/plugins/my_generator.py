"""A generator of pseudo-images that enlarges its maps by transposed convolutions."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import UserError
from nasdistill.zero_shot.generators import GENERATORS, Generator


@GENERATORS.register("transposed")
class Transposed(Generator):
    """From a vector to a map of a quarter of the image's size, which is doubled twice."""

    source = "Radford et al. 2016, DCGAN (arXiv:1511.06434)"

    channels: int = Field(128, gt=1, description="of the first map; the second has half as many")

    def build(self, shape: Shape, images: int, classes: int) -> nn.Module:
        depth, height, width = shape
        if height % 4 or width % 4:
            raise UserError(
                f"the generator 'transposed' makes images whose sides are multiples of 4, not {height}x{width}"
            )
        first, second, map_size = self.channels, self.channels // 2, (height // 4, width // 4)
        return nn.Sequential(
            nn.Linear(self.latent(shape), first * map_size[0] * map_size[1]),
            nn.Unflatten(1, (first, *map_size)),
            *(nn.BatchNorm2d(first), nn.ReLU()),
            nn.ConvTranspose2d(first, second, 4, stride=2, padding=1),
            *(nn.BatchNorm2d(second), nn.ReLU()),
            nn.ConvTranspose2d(second, depth, 4, stride=2, padding=1),
            nn.BatchNorm2d(depth, affine=False),  # images lie in normalised space: mean 0, variance 1
        )
