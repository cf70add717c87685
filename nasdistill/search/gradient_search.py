"""Strategies that learn an architecture by gradient; what they compute with is imported when they search."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nasdistill.search.settings import GradientOptions
from nasdistill.search.strategies import SearchResult

if TYPE_CHECKING:
    from nasdistill.search.given import Given
    from nasdistill.search.gradient import Learner


RESCALED = "the budget changes the widths of the network that is found"


class GradientSearch(GradientOptions):
    """Base of the strategies that learn an architecture by gradient, beside the weights.

    Several processes average the gradients of weights and architecture, so that all learn the same one.
    """

    has_supernet: ClassVar[bool] = True

    def learner(self, given: Given) -> Learner:
        """What the search of a space that is not refused trains."""
        raise NotImplementedError(type(self).__name__)

    def find(self, given: Given) -> SearchResult:
        from dataclasses import replace

        import torch

        from nasdistill.search.gradient import learn

        torch.manual_seed(given.seed)
        found = learn(self.learner(given), self, given)
        return replace(found, model=self.within_budget(found.model, given.data))
