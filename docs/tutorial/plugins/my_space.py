"""A search space: cells of three nodes that choose between a small convolution and no work at all."""

from __future__ import annotations

from pydantic import Field

from nasdistill.search.spaces import SPACES
from nasdistill.search.spaces.darts_cells import DartsSpace


@SPACES.register("frugal")
class Frugal(DartsSpace):
    """Separable 3x3 convolutions, pools and identities, for networks that must be small."""

    source = "the tutorial"

    operations: tuple[str, ...] = Field(
        ("none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3"), min_length=1, description="operations on every edge"
    )
    nodes: int = Field(3, gt=0, description="inner nodes of a cell")
    search_channels: int = Field(4, gt=1, description="channels of the first cells while searching")
    search_cells: int = Field(3, gt=0, description="cells while searching")
    channels: int = Field(8, gt=1, description="channels of the first cells of the found network")
    cells: int = Field(4, gt=0, description="cells of the found network")
