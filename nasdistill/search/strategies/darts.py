"""Differentiable architecture search: the weights of the operations are learned by gradient, beside the network's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from nasdistill.data.loaders import ImageBatches
from nasdistill.models.genotypes import Genotype
from nasdistill.registry import ComponentOf
from nasdistill.search.bilevel import second_order
from nasdistill.search.gradient import Gradients, GradientSearch, Learner
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.selections.strongest import count_skips
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.supernet import Supernet
from nasdistill.training.batches import Batch
from nasdistill.training.loop import Fields, Stateful
from nasdistill.training.processes import all_reduce_mean

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
    sampler: Annotated[Any, ComponentOf("samplers")] = Field(
        "softmax",
        validate_default=True,
        description="how weights come from what is learned, e.g. {name: gumbel, hard: false}",
    )
    edges: Annotated[Any, ComponentOf("edges")] = Field(
        "dense", validate_default=True, description="what lies on an edge, e.g. {name: partial, divisor: 4}"
    )
    edge_normalisation: bool = Field(
        False, description="learn the share of each edge in its node's sum as well, a softmax over the node's edges"
    )
    regularisers: tuple[Annotated[Any, ComponentOf("regularisers")], ...] = Field(
        (), description="terms of the architecture's loss beside cross-entropy, e.g. [beta-decay]"
    )
    selection: Annotated[Any, ComponentOf("selections")] = Field(
        "strongest",
        validate_default=True,
        description="which edges and operations are kept, e.g. {name: capped-skips, skips: 2}",
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
        if not isinstance(space, CellSpace):
            return "it needs a space of cells"
        refused: str | None = self.edges.reason_to_refuse(space)
        return refused

    def learner(self, space: SearchSpace, data: Data, engine: Engine, seed: int) -> Learner:
        assert isinstance(space, CellSpace)
        return CellLearner(self, space, data, engine, seed)


class CellLearner(Learner):
    """The supernet of a space of cells.

    Attributes:
        model: what would be found now, as a recipe writes it.
        progress: share of the epochs that were done when the present one began.
    """

    supernet: Supernet
    model: dict[str, Any]

    def __init__(self, search: DartsSearch, space: CellSpace, data: Data, engine: Engine, seed: int) -> None:
        self.search = search
        self.space = space
        self.progress = 0.0
        super().__init__(search, self.make_supernet(data), engine, seed, search.order == 2)

    def make_supernet(self, data: Data) -> Supernet:
        """The supernet of the search's options."""
        return Supernet(
            self.space,
            data.shape,
            len(data.classes),
            sampler=self.search.sampler,
            edges=self.search.edges,
            edge_normalisation=self.search.edge_normalisation,
        )

    def begin_epoch(self, epoch: int) -> None:
        self.progress = epoch / self.search.epochs

    def mixture(self, half: str, number: int) -> tuple[Mixture, ...]:
        """What the pass on that half in that step reads: the same whenever it is asked for."""
        with self.noise(half, number):
            return self.supernet.mixture(Moment(self.progress, half))

    def logits(self, half: str, images: torch.Tensor, number: int) -> torch.Tensor:
        logits: torch.Tensor = self.supernet(images, self.mixture(half, number))
        return logits

    def loss(self, half: str, batch: Batch, number: int) -> torch.Tensor:
        value = super().loss(half, batch, number)
        if half == "validation" and self.search.regularisers:
            mixtures = self.mixture(half, number)
            for term in self.search.regularisers:
                terms = [term.checked(self.space, mixture) for mixture in mixtures]
                added = term.weight * torch.stack(terms).mean()
                self.seen[f"regulariser/{term.registered_name}"] = added.detach()
                value = value + added
        return value

    def alpha_gradients(self, number: int, weight_batch: Batch, architecture_batch: Batch) -> Gradients:
        if self.search.order == 1:
            return super().alpha_gradients(number, weight_batch, architecture_batch)
        return second_order(
            lambda: self.loss("training", weight_batch, number),
            lambda: self.loss("validation", architecture_batch, number),
            self.weights,
            self.alphas,
            learning_rate=self.sgd.param_groups[0]["lr"],
            velocities=self._velocities(),
            momentum=self.search.momentum,
            weight_decay=self.search.weight_decay,
            combine=all_reduce_mean,
        )

    @torch.no_grad()
    def curves(self, epoch: int) -> dict[str, float]:
        """Each operation's weight on each edge, their entropy, the edges' shares, and the skip connections."""
        mixtures = self.supernet.mixture(Moment(epoch / self.search.epochs))
        latest = Genotype(**{mixture.cell: self.search.selection.cell(self.space, mixture) for mixture in mixtures})
        self.stopped = epoch > 0 and self._collapsed(latest, epoch) and self.search.on_collapse == "stop"
        if not self.stopped or epoch == 1:
            self.model = self.space.model_of(latest)
        told: dict[str, float] = {}
        for mixture in mixtures:
            name = mixture.cell
            for edge, row in enumerate(mixture.weights.tolist()):
                weights = zip(self.space.operations, row, strict=True)
                told |= {f"alpha/{name}/{edge}/{operation}": weight for operation, weight in weights}
            if mixture.shares is not None:
                shares = enumerate(mixture.shares.tolist())
                told |= {f"alpha/{name}/{edge}/share of the node": share for edge, share in shares}
            told[f"entropy/{name}"] = mixture.entropy()
            told[f"skips/{name}"] = float(count_skips(getattr(latest, name)))
        return told

    def found(self, architecture_batches: ImageBatches) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.model, {}

    def parts(self) -> dict[str, Stateful | None]:
        return {**super().parts(), "cells": Fields(self, "model", "stopped")}

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
        """The momentum buffers; zeros where there is no momentum."""
        if self.search.momentum == 0:
            return [torch.zeros_like(weight) for weight in self.weights]
        return [self.sgd.state[weight]["momentum_buffer"] for weight in self.weights]
