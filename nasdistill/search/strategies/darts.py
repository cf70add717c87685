"""Differentiable architecture search: the weights of the operations are learned by gradient, beside the network's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field

from nasdistill.data.loaders import Batches
from nasdistill.models.genotypes import Genotype
from nasdistill.search.bilevel import second_order
from nasdistill.search.discretise import count_skips, discretise, entropy
from nasdistill.search.gradient import GradientSearch, Learner, Slopes
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.supernet import Supernet
from nasdistill.training.batches import Batch
from nasdistill.training.processes import averaged

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.training.engine import Engine

log = logging.getLogger(__name__)


@STRATEGIES.register("darts")
class DartsSearch(GradientSearch):
    """Relax the choice of operations to a softmax over all of them, and learn it by gradient descent.

    Half of the training images (drawn per class, by the seed) teach the weights, the other half the architecture. The
    defaults are the published ones for CIFAR-10. Cutout and drop path are left out while searching, as published.
    Several processes average the gradients of weights and architecture, so that all learn the same one.
    """

    source: ClassVar[str] = "Liu et al. 2019, DARTS: Differentiable Architecture Search (arXiv:1806.09055)"

    order: Literal[1, 2] = Field(
        1,
        description="1 takes the present weights for the optimal ones; 2 looks one weight step ahead, at 2.5 times the "
        "cost and always in 32-bit precision, which its finite differences need",
    )
    max_skips: int | None = Field(
        None,
        ge=0,
        description="skip connections in the normal cell beyond which the search counts as collapsed; half of the "
        "edges that the cell keeps, if not given",
    )
    on_collapse: Literal["warn", "stop"] = Field(
        "warn", description="warn of a collapse, or stop there and keep the cells of the epoch before"
    )

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        return None if isinstance(space, CellSpace) else "it needs a space of cells"

    def learner(self, space: SearchSpace, data: Data, engine: Engine, seed: int) -> Learner:
        assert isinstance(space, CellSpace)
        return CellLearner(self, space, data, engine, seed)


class CellLearner(Learner):
    """The supernet of a space of cells.

    Attributes:
        genotype: the cells that would be found now.
    """

    supernet: Supernet
    genotype: Genotype

    def __init__(self, search: DartsSearch, space: CellSpace, data: Data, engine: Engine, seed: int) -> None:
        super().__init__(search, Supernet(space, data.shape, len(data.classes)), engine, seed, search.order == 2)
        self.search = search
        self.space = space

    def alpha_slopes(self, number: int, teaching: Batch, judging: Batch) -> Slopes:
        if self.search.order == 1:
            return super().alpha_slopes(number, teaching, judging)
        return second_order(
            lambda: self.loss("training", teaching, number),
            lambda: self.loss("validation", judging, number),
            self.weights,
            self.alphas,
            rate=self.sgd.param_groups[0]["lr"],
            velocities=self._velocities(),
            momentum=self.search.momentum,
            weight_decay=self.search.weight_decay,
            combine=averaged,
        )

    def look(self, epoch: int) -> dict[str, float]:
        """Each operation's weight on each edge, their entropy, and the skip connections."""
        latest = discretise(self.space, *self.supernet.mixture())
        self.stopped = epoch > 0 and self._collapsed(latest, epoch) and self.search.on_collapse == "stop"
        if not self.stopped or epoch == 1:
            self.genotype = latest
        told: dict[str, float] = {}
        for name, mixture in zip(("normal", "reduce"), self.supernet.mixture(), strict=True):
            for edge, row in enumerate(mixture.tolist()):
                weights = zip(self.space.operations, row, strict=True)
                told |= {f"alpha/{name}/{edge}/{operation}": weight for operation, weight in weights}
            told[f"entropy/{name}"] = entropy(mixture)
            told[f"skips/{name}"] = float(count_skips(getattr(latest, name)))
        return told

    def found(self, judging: Batches) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.space.model_of(self.genotype), {}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "genotype": self.genotype.model_dump(mode="json"), "stopped": self.stopped}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.genotype = Genotype.model_validate(state["genotype"])
        self.stopped = state["stopped"]

    def _collapsed(self, genotype: Genotype, epoch: int) -> bool:
        edges = sum(map(len, genotype.normal))
        skips = count_skips(genotype.normal)
        collapsed = skips > (edges // 2 if self.search.max_skips is None else self.search.max_skips)
        if collapsed:
            log.warning(
                "the search collapses: after epoch %d, %d of the %d edges of the normal cell are skip connections%s",
                epoch,
                skips,
                edges,
                "; it stops here" if self.search.on_collapse == "stop" else "",
            )
        return collapsed

    def _velocities(self) -> list[torch.Tensor]:
        """The momentum buffers; zeros before the first step."""
        buffers = ((weight, self.sgd.state[weight].get("momentum_buffer")) for weight in self.weights)
        return [torch.zeros_like(weight) if buffer is None else buffer for weight, buffer in buffers]
