"""An operation that no search should prefer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nasdistill.models.operations import OPERATIONS, Operation

if TYPE_CHECKING:
    from torch import nn


@OPERATIONS.register("noise")
class NoiseInPlace(Operation):
    """Standard normal noise in place of the input: a search that keeps it has been misled."""

    source: ClassVar[str] = "Zela et al. 2020, Understanding and Robustifying DARTS (arXiv:1909.09656), space S4"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        from nasdistill.models.layers import Noise

        return Noise(stride)
