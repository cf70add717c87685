"""Operations: what an edge of a cell can do to its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    from torch import nn


class Operation(Component):
    """Base of all operations."""

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        """A module from [N, channels, H, W] to [N, channels, ceil(H/stride), ceil(W/stride)].

        Args:
            affine: whether batch norm learns a scale and a shift (networks yes, supernets no).
        """
        raise NotImplementedError(type(self).__name__)


OPERATIONS: Registry[Operation] = Registry("operations", Operation, "nasdistill.models.operations")
