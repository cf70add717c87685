"""Growing every cell alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch

from nasdistill.growth.methods import GROWTH_METHODS, Grown, GrowthMethod
from nasdistill.growth.plan import Target, fitted, record
from nasdistill.models.base import NetworkSpec
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine
from nasdistill.training.records import Records


@GROWTH_METHODS.register("uniform")
class Uniform(GrowthMethod):
    """Multiplies the channels of every cell, and of the stem, by the same factor."""

    source: ClassVar[str] = "the usual width multiplier, Zagoruyko and Komodakis 2016, Wide residual networks"

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
        target = Target.for_student(spec, self.budget, self.ratio, self.tolerance)
        grown = target.checked(fitted(spec, target), "scaling all widths alike")
        return Grown(grown, [record(grown, target)])
