"""Strategies that learn an architecture by gradient; what they compute with is imported when they search."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nasdistill.search.settings import GradientOptions
from nasdistill.search.strategies import SearchResult

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.given import Given
    from nasdistill.search.gradient import Learner
    from nasdistill.search.spaces import SearchSpace
    from nasdistill.training.engine import Engine


RESCALED = "the budget changes the widths of the network that is found"


class GradientSearch(GradientOptions):
    """Base of the strategies that learn an architecture by gradient, beside the weights.

    Several processes average the gradients of weights and architecture, so that all learn the same one.
    """

    has_supernet: ClassVar[bool] = True

    def learner(self, space: SearchSpace, data: Data, engine: Engine, seed: int) -> Learner:
        """What the search of a space that is not refused trains."""
        raise NotImplementedError(type(self).__name__)

    def find(self, given: Given) -> SearchResult:
        from dataclasses import replace

        import torch

        from nasdistill.search.gradient import learn

        torch.manual_seed(given.seed)
        learner = self.learner(given.space, given.data, given.engine, given.seed)
        found = learn(learner, self, given)
        return replace(found, model=self.within_budget(found.model, given.data))
