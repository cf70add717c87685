"""The strategy that suits the time there is: proxies where steps are few, gradients where they are many."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.registry import build
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import STRATEGIES, SearchResult, Strategy
from nasdistill.search.strategies.proxy import ProxySearch
from nasdistill.search.strategies.successors import DrNas

if TYPE_CHECKING:
    from nasdistill.search.given import Given

log = logging.getLogger(__name__)

DECIDES = 3.0
"""How far an alpha must be able to move for a softmax over a handful of operations to end decided."""


@STRATEGIES.register("auto")
class Auto(Strategy):
    """Choose by the number of steps: `drnas` where these are enough to decide, else `proxy`.

    Adam moves an alpha by at most its learning rate a step, so that with few steps all operations end as equal as they
    began. There untrained networks are scored, in seconds.
    """

    source: ClassVar[str] = "this project; see docs/results.md, Strategies on NAS-Bench-201"

    epochs: int = Field(50, gt=0, description="what the search may cost, in epochs of a supernet")

    def chosen(self, space: SearchSpace, images: int) -> Strategy:
        """What searches `space` with so many training images."""
        gradients = build(DrNas, {"epochs": self.epochs})
        steps = self.epochs * max(1, images // 2 // gradients.batch_size)
        able = isinstance(space, CellSpace) and gradients.reason_to_refuse(space) is None
        return gradients if able and steps * gradients.alpha_lr >= DECIDES else build(ProxySearch, {})

    def reason_to_keep_no_weights(self, space: SearchSpace) -> str | None:
        trains = "such as --strategy darts (in a recipe, strategy: darts)"
        return build(DrNas, {"budget": self.budget}).reason_to_keep_no_weights(space) or (
            f"it may search by proxies, which train none; choose a strategy that trains them, {trains}"
        )

    def find(self, given: Given) -> SearchResult:
        strategy = self.chosen(given.space, len(given.data.train)).model_copy(update={"budget": self.budget})
        log.info("auto searches by %s", strategy.registered_name)
        return strategy.find(given)
