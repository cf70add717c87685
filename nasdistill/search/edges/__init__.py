"""Edges: what lies between a state of a mixed cell and the nodes that read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.search.spaces.cells import CellSpace


class Edges(Component):
    """Base of all kinds of edges."""

    hands_over: ClassVar[bool] = False
    """Whether its fan has `hand_over`, see `nasdistill.search.fan.Fan`, as a network has the same operations."""

    def reason_to_refuse(self, space: CellSpace) -> str | None:
        """Why a supernet of `space` cannot have such edges, to follow a colon, or None if it can."""
        return None

    def fan(self, space: CellSpace, channels: int, edges: Sequence[Sequence[str]], stride: int) -> nn.Module:
        """All edges that leave one state.

        Args:
            edges: of each the names of its operations, in the order of the mixture's columns.

        Returns:
            a module from the state [N, channels, H, W] and the edges' `Mixture` to what the edges carry beside each
            other, [N, len(edges) * channels, ceil(H / stride), ceil(W / stride)]; `Mixture.shares` are applied outside.
        """
        raise NotImplementedError(type(self).__name__)


EDGES: Registry[Edges] = Registry("edges", Edges, "nasdistill.search.edges")
