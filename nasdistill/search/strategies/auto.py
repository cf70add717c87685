"""The strategy that suits the time there is: a race where steps are few, gradients where they are many."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.registry import build
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import STRATEGIES, SearchResult, Strategy
from nasdistill.search.strategies.darts import DartsSearch
from nasdistill.search.strategies.successive_halving import SuccessiveHalving

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine
    from nasdistill.training.records import Records

log = logging.getLogger(__name__)

DECIDES = 3.0
"""How far an alpha must be able to move for a softmax over a handful of operations to end decided."""
PASSES = 4
"""Epochs of one network that an epoch of a supernet costs, at least: it computes every operation of every edge."""
MOST_CANDIDATES = 64


@STRATEGIES.register("auto")
class Auto(Strategy):
    """Choose by the number of steps: `darts` as published where these are enough to decide, else `successive-halving`.

    Adam moves an alpha by at most its learning rate a step, so that with few steps all operations end as equal as they
    began. There the race has as many epochs of single networks as the supernet would have cost.
    """

    source: ClassVar[str] = "this project; see docs/results.md, Searched or drawn"
    has_epochs: ClassVar[bool] = True

    epochs: int = Field(50, gt=0, description="what the search may cost, in epochs of a supernet")

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        return self._race().reason_to_refuse(space)

    def reason_to_keep_no_weights(self, space: SearchSpace) -> str | None:
        return self._race().reason_to_keep_no_weights(space)

    def chosen(self, space: SearchSpace, images: int) -> Strategy:
        """What searches `space` with so many training images."""
        gradients = build(DartsSearch, {"epochs": self.epochs})
        steps = self.epochs * max(1, images // 2 // gradients.batch_size)
        able = isinstance(space, CellSpace) and gradients.reason_to_refuse(space) is None
        if able and steps * gradients.alpha_lr >= DECIDES:
            return gradients
        return self._race()

    def search(
        self,
        space: SearchSpace,
        data: Data,
        engine: Engine,
        seed: int,
        checkpoints: Checkpoints | None = None,
        records: Records | None = None,
    ) -> SearchResult:
        strategy = self.chosen(space, len(data.train))
        log.info("auto chooses %s", strategy.spec())
        return strategy.search(space, data, engine, seed, checkpoints, records)

    def _race(self) -> SuccessiveHalving:
        """As many candidates as can be afforded, and then as many epochs."""
        passes = PASSES * self.epochs
        candidates = 2
        while candidates < MOST_CANDIDATES and _cost(2 * candidates) <= passes:
            candidates *= 2
        return build(SuccessiveHalving, {"candidates": candidates, "epochs": max(1, passes // _cost(candidates))})


def _cost(candidates: int) -> int:
    """Of a race that begins with one epoch, in epochs of one network."""
    race: SuccessiveHalving = build(SuccessiveHalving, {"candidates": candidates, "epochs": 1})
    return race.trained(candidates)
