"""Differentiable architecture search: the weights of the operations are learned by gradient, beside the network's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nasdistill.search.gradient_search import RESCALED, GradientSearch
from nasdistill.search.settings import CellOptions
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import STRATEGIES

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.gradient import Learner
    from nasdistill.training.engine import Engine


@STRATEGIES.register("darts")
class DartsSearch(GradientSearch, CellOptions):
    """Relax the choice of operations to a softmax over all of them, and learn it by gradient descent.

    Half of the training images (drawn per class, by the seed) teach the weights, the other half the architecture. The
    defaults are the published ones for CIFAR-10. Cutout and drop path are left out while searching, as published.
    Several processes average the gradients of weights and architecture, so that all learn the same one.
    """

    source: ClassVar[str] = "Liu et al. 2019, DARTS: Differentiable Architecture Search (arXiv:1806.09055)"

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        if not isinstance(space, CellSpace):
            return "it needs a space of cells"
        refused: str | None = self.edges.reason_to_refuse(space)
        return refused

    def reason_to_keep_no_weights(self, space: SearchSpace) -> str | None:
        if not self.edges.hands_over:
            return f"a network has no {self.edges.registered_name} edges"
        return space.other_size() if self.budget is None else RESCALED

    def learner(self, space: SearchSpace, data: Data, engine: Engine, seed: int) -> Learner:
        from nasdistill.search.cell_learner import CellLearner

        assert isinstance(space, CellSpace)
        return CellLearner(self, space, data, engine, seed)
