"""Edges whose skip connections are dropped at random while a search trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.search.edges import EDGES, Edges

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.search.mixture import Moment
    from nasdistill.search.spaces.cells import CellSpace


@EDGES.register("skip-dropout")
class SkipDropout(Edges):
    """As `dense`, with dropout after each skip connection of stride 1, so that gradients do not rush through skips.

    The rate stays as it is for `hold` of the epochs, and then falls exponentially, so that in the end skips compete
    with the other operations. Curves and the end have no dropout.
    """

    source: ClassVar[str] = "Chen et al. 2019, P-DARTS (arXiv:1904.12760), section 3.3, and its released code"
    hands_over: ClassVar[bool] = True

    rate: float = Field(0.7, ge=0, lt=1, description="probability that a value is dropped, at first")
    hold: float = Field(
        0.4, ge=0, lt=1, description="share of the epochs in which the rate stays; commonly those of the warm-up"
    )
    decay: float = Field(
        5.0, ge=0, description="how fast the rate falls then: over all epochs together it would by e^-decay"
    )

    def rate_at(self, moment: Moment) -> float:
        """The rate where something is trained, else 0."""
        return self.rate * math.exp(-self.decay * max(0.0, moment.progress - self.hold)) if moment.half else 0.0

    def fan(self, space: CellSpace, channels: int, edges: Sequence[Sequence[str]], stride: int) -> nn.Module:
        from nasdistill.search.fan import SkipDropoutFan

        return SkipDropoutFan(space, channels, edges, stride, self.rate_at)
