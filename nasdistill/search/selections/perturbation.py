"""The operations that the supernet can do without the least."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nasdistill.search.selections import SELECTIONS
from nasdistill.search.selections.strongest import Strongest

if TYPE_CHECKING:
    from nasdistill.models.genotypes import Cell
    from nasdistill.search.gradient import Learner


@SELECTIONS.register("darts-pt")
class DartsPt(Strongest):
    """In the end the edges are decided in a random order: each keeps the operation without which accuracy falls most.

    Accuracy is that of the supernet on the architecture's half of the images, once for each operation of each edge.
    Then each node keeps the edges without which it falls most. While the search runs, curves show the strongest cells.
    A search that is killed while it selects begins the selection anew.
    """

    source: ClassVar[str] = (
        "Wang et al. 2021, Rethinking Architecture Selection in Differentiable NAS (arXiv:2108.04392)"
    )

    tuning_epochs: int = Field(5, ge=0, description="epochs of training between the decisions of edges and nodes")

    def finish(self, learner: Learner) -> dict[str, Cell]:
        from nasdistill.search.cell_learner import CellLearner
        from nasdistill.search.perturbation import Perturbation

        assert isinstance(learner, CellLearner)
        return Perturbation(learner, self.tuning_epochs).cells()
