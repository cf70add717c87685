"""Search strategies: how the operations of a space are chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.models.genotypes import Genotype
    from nasdistill.search.spaces import SearchSpace
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine
    from nasdistill.training.records import Records


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        genotype: the discretised cells.
        history: `{"curves": {name: [[epochs done, value], ...]}}` where the strategy learns, plain data.
        metrics: numbers for the results table, e.g. `samples_per_second`.
    """

    genotype: Genotype
    history: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


class Strategy(Component):
    """Base of all search strategies."""

    def search(
        self, space: SearchSpace, data: Data, engine: Engine, seed: int, checkpoints: Checkpoints, records: Records
    ) -> Found:
        """Search `space` on the training images of `data`; goes on from `checkpoints` if there are any.

        The validation and the test images stay unseen: they are for judging what was found.
        """
        raise NotImplementedError(type(self).__name__)


STRATEGIES: Registry[Strategy] = Registry("strategies", Strategy, "nasdistill.search.strategies")
