"""Dense edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nasdistill.search.edges import EDGES, Edges

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.search.spaces.cells import CellSpace


@EDGES.register("dense")
class Dense(Edges):
    """All operations on all channels."""

    source: ClassVar[str] = "Liu et al. 2019, DARTS (arXiv:1806.09055), section 2.2"

    def fan(self, space: CellSpace, channels: int, edges: int, stride: int) -> nn.Module:
        from nasdistill.search.fan import Fan

        return Fan(space, channels, edges, stride)
