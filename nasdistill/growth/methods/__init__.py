"""Growth methods: which cell of a student is widened, or deepened, to make its teacher."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch

    from nasdistill.models.base import NetworkSpec
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine
    from nasdistill.training.records import Records


@dataclass(frozen=True)
class Grown:
    """A grown architecture with the way that led to it.

    Attributes:
        spec: rebuilt from JSON alone.
        steps: one mapping a step (`widths`, `parameters`, `ratio`, and what the method adds, such as the `cell` that
            grew and the `importance` of each), plain data.
        importance: per cell, `before` and `after` growing, where the method scores.
    """

    spec: NetworkSpec
    steps: list[dict[str, Any]] = field(default_factory=list)
    importance: dict[str, list[float]] = field(default_factory=dict)


class GrowthMethod(Component):
    """Base of all growth methods."""

    ratio: float = Field(2.0, gt=1, description="size of the teacher over the size of the student")
    budget: Literal["params", "flops"] = Field("params", description="what size means")
    tolerance: float = Field(0.02, gt=0, description="how far from the ratio the result may be, as a fraction of it")

    def grow(
        self,
        spec: NetworkSpec,
        network: torch.nn.Module,
        batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
        engine: Engine,
        seed: int,
        checkpoints: Checkpoints,
        records: Records,
    ) -> Grown:
        """Grow `spec` to `ratio` times its size.

        Args:
            network: the student, trained or not, built from `spec`; it is left as it was.
            batches: normalised images and labels; can be iterated again and again, in the same order.
            checkpoints: where a method that takes long saves its steps, and goes on from.
            records: where it tells its scores.

        Raises:
            UserError: this kind of model cannot grow, or the ratio cannot be reached within the tolerance.
        """
        raise NotImplementedError(type(self).__name__)


GROWTH_METHODS: Registry[GrowthMethod] = Registry("growth-methods", GrowthMethod, "nasdistill.growth.methods")
