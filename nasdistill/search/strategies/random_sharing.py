"""Random search with weight sharing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.search.gradient_search import RESCALED, GradientSearch
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import STRATEGIES

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.gradient import Learner
    from nasdistill.training.engine import Engine


@STRATEGIES.register("random-sharing")
class RandomSharing(GradientSearch):
    """Each step trains one drawn architecture of a supernet; the best of drawn candidates with these weights is kept.

    Half of the training images teach the weights, the other half compares the candidates, with the statistics of each
    batch in batch norm. The released code compares 1000 candidates on a batch each, and the five best on all images.
    """

    source: ClassVar[str] = "Li and Talwalkar 2019, Random Search and Reproducibility for NAS (arXiv:1902.07638)"

    candidates: int = Field(100, gt=0, description="architectures to draw and compare once the weights are trained")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        for name in self.differs("alpha_lr", "alpha_travel", "alpha_weight_decay"):
            yield name, "architectures are drawn, not learned"

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        return None if isinstance(space, CellSpace) else "it needs a space of cells"

    def reason_to_keep_no_weights(self, space: SearchSpace) -> str | None:
        return space.other_size() if self.budget is None else RESCALED

    def learner(self, space: SearchSpace, data: Data, engine: Engine, seed: int) -> Learner:
        from nasdistill.search.sharing import SharingLearner

        assert isinstance(space, CellSpace)
        return SharingLearner(self, self.candidates, space, data, engine, seed)
