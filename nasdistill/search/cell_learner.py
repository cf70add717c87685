"""What DARTS trains: the supernet of a space of cells."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from nasdistill.models.genotypes import Cell
from nasdistill.models.memory_limit import within_memory
from nasdistill.search.bilevel import as_constants, gradients, second_order
from nasdistill.search.cell_supernet import INITIAL_SPREAD, CellSupernet
from nasdistill.search.curvature import before_the_rise, dominant_eigenvalue
from nasdistill.search.decisions import Decision, Moves, decisions, undecided
from nasdistill.search.expected_cost import ExpectedCost
from nasdistill.search.gradient import Gradients, Learner
from nasdistill.search.inheritance import inherit
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.selections.strongest import count_skips
from nasdistill.search.settings import CellOptions
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import SearchResult
from nasdistill.search.supernets import supernet_of
from nasdistill.training.batches import Batch
from nasdistill.training.loop import Fields, Stateful
from nasdistill.training.processes import all_reduce_mean

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.training.engine import Engine

log = logging.getLogger(__name__)


class CellLearner(Learner):
    """The supernet of a space of cells.

    Attributes:
        model: what would be found now, as a recipe writes it.
        models: what would have been found after each epoch, [[epochs done, model], ...].
        progress: share of the epochs that were done when the present one began.
        eigenvalues: of the Hessian, after each epoch, where they are watched.
        warming_up: whether only the weights learn in the present epoch.
    """

    supernet: CellSupernet
    model: dict[str, Any]

    def __init__(self, options: CellOptions, space: CellSpace, data: Data, engine: Engine, seed: int) -> None:
        self.options = options
        self.engine = engine
        self.space = space
        self.progress, self.warming_up = 0.0, False
        self.models: list[list[Any]] = []
        self.eigenvalues: list[float] = []
        super().__init__(options, within_memory(lambda: self.make_supernet(data)), engine, seed, options.order == 2)
        budget = options.budget if options.budget_weight else None
        self.expected = None if budget is None else ExpectedCost(space, budget, data, self.device)
        self.moves = Moves([getattr(self.supernet, kind) for kind in space.kinds])

    def make_supernet(self, data: Data) -> CellSupernet:
        """The supernet of these options."""
        return supernet_of(
            self.space,
            data.shape,
            len(data.classes),
            sampler=self.options.sampler,
            edges=self.options.edges,
            edge_normalisation=self.options.edge_normalisation,
        )

    def begin_epoch(self, epoch: int) -> None:
        self.progress = epoch / self.options.epochs
        self.warming_up = self.options.warms_up(epoch)

    def step(self, number: int, weight_batch: Batch, architecture_batch: Batch | None = None) -> None:
        with self.moves.of(number):
            super().step(number, weight_batch, None if self.warming_up else architecture_batch)

    def mixture(self, half: str, number: int) -> tuple[Mixture, ...]:
        """What the pass on that half in that step reads: the same whenever it is asked for."""
        with self.noise(half, number):
            return self.supernet.mixture(Moment(self.progress, half))

    def logits(self, half: str, images: torch.Tensor, number: int) -> torch.Tensor:
        mixture = self.mixture(half, number)
        with self.noise(f"{half}, operations", number):  # all passes of a second-order step see what these draw
            logits: torch.Tensor = self.supernet(images, mixture)
        return logits

    def loss(self, half: str, batch: Batch, number: int) -> torch.Tensor:
        value = super().loss(half, batch, number)
        if half == "validation" and self.expected is not None:
            value = value + self.options.budget_weight * self.expected.excess(self.mixture(half, number))
        if half == "validation" and self.options.regularisers:
            mixtures = self.mixture(half, number)
            for term in self.options.regularisers:
                terms = [term.checked(self.space, mixture) for mixture in mixtures]
                added = term.weight * torch.stack(terms).mean()
                self.seen[f"regulariser/{term.registered_name}"] = added.detach()
                value = value + added
        return value

    def alpha_gradients(self, number: int, weight_batch: Batch, architecture_batch: Batch) -> Gradients:
        if self.options.order == 1:
            return super().alpha_gradients(number, weight_batch, architecture_batch)
        return second_order(
            lambda: self.loss("training", weight_batch, number),
            lambda: self.loss("validation", architecture_batch, number),
            self.weights,
            self.alphas,
            learning_rate=self.sgd.param_groups[0]["lr"],
            velocities=self._velocities(),
            momentum=self.options.momentum,
            weight_decay=self.options.weight_decay,
            combine=all_reduce_mean,
        )

    @torch.no_grad()
    def curves(self, epoch: int) -> dict[str, float]:
        """Each operation's weight on each edge, their entropy, the edges' shares, and the skip connections."""
        mixtures = self.supernet.mixture(Moment(epoch / self.options.epochs))
        latest = {mixture.cell: self.options.selection.cell(self.space, mixture) for mixture in mixtures}
        self.stopped = epoch > 0 and self._collapsed(latest["normal"], epoch) and self.options.on_collapse == "stop"
        if not self.stopped or epoch == 1:
            self.model = self.space.model_of(latest)
        curves: dict[str, float] = {}
        if self.expected is not None:
            curves["share of the budget/expected"] = float(self.expected.share(mixtures))
        if self.options.eigenvalue != "ignore":
            self.eigenvalues.append(self.eigenvalue(epoch))
            curves["eigenvalue"] = self.eigenvalues[-1]
            if self.options.eigenvalue == "stop" and (best := before_the_rise(self.eigenvalues)) is not None:
                log.warning("the eigenvalue rises: the search stops after epoch %d, with the cells of %d", epoch, best)
                self.model, self.stopped = self.models[best][1], True
        self.models.append([epoch, self.model])
        for mixture in mixtures:
            name = mixture.cell
            for edge, (names, row) in enumerate(zip(self.space.offered(name), mixture.weights.tolist(), strict=True)):
                weights = zip(names, row, strict=True)
                curves |= {f"alpha/{name}/{edge}/{operation}": weight for operation, weight in weights}
            if mixture.shares is not None:
                shares = enumerate(mixture.shares.tolist())
                curves |= {f"alpha/{name}/{edge}/share of the node": share for edge, share in shares}
            curves[f"entropy/{name}"] = mixture.entropy()
            curves[f"skips/{name}"] = float(count_skips(latest[name]))
        return curves

    def eigenvalue(self, epoch: int) -> float:
        """The dominant one of the Hessian of the validation loss in the alphas, nothing drawn, on the first batch."""
        batch = next(self.architecture_batches.epoch(0, stop=1))
        supernet = copy.deepcopy(self.supernet).double()
        alphas = supernet.alphas()

        @torch.enable_grad()
        def gradient() -> list[torch.Tensor]:
            logits = supernet(batch.images.double(), supernet.mixture(Moment(epoch / self.options.epochs)))
            return gradients(functional.cross_entropy(logits, batch.labels), alphas, all_reduce_mean)

        with as_constants(supernet.weights()):
            return dominant_eigenvalue(gradient, alphas)

    def decisions(self) -> list[Decision]:
        """How decided each edge is."""
        edges, outcomes = self.space.edges(), self.space.outcomes()
        found: list[Decision] = []
        for index, cell in enumerate(self.space.kinds):
            halves = [half[index] for half in self.moves.halves]
            alphas = getattr(self.supernet, cell).detach()
            found += decisions(cell, edges, self.space.offered(cell), outcomes, alphas, halves, INITIAL_SPREAD)
        return found

    def found(self) -> SearchResult:
        made = self.decisions()
        if (warning := undecided(made)) is not None:
            rate = "alpha_lr" if self.options.alpha_travel is None else "alpha_travel"
            log.warning("%s; more epochs or a larger %s let the images decide", warning, rate)
        decided = {"decided": 100 * sum(each.decided for each in made) / len(made)} if made else {}
        cells = None if self.stopped else self.options.selection.finish(self)
        if cells is not None:
            self.model = self.space.model_of(cells)
        return SearchResult(
            self.model,
            history={"found": self.models},
            metrics=decided,
            decisions=[each.plain() for each in made],
            strengths=self.strengths(),
            hand_over=partial(
                inherit, self.supernet, self.space.cells_in(self.model), self.weight_batches, self.engine
            ),
        )

    @torch.no_grad()
    def strengths(self) -> dict[str, list[dict[str, float]]]:
        """See `SearchResult`."""
        return {
            mixture.cell: [
                dict(zip(names, row, strict=True))
                for names, row in zip(self.space.offered(mixture.cell), mixture.strengths().tolist(), strict=True)
            ]
            for mixture in self.supernet.mixture(Moment(self.progress))
        }

    def parts(self) -> dict[str, Stateful | None]:
        return {
            **super().parts(),
            "cells": Fields(self, "model", "models", "eigenvalues", "stopped"),
            "moves": self.moves,
        }

    def _collapsed(self, normal: Cell, epoch: int) -> bool:
        edges = sum(map(len, normal))
        skips = count_skips(normal)
        collapsed = skips > (edges // 2 if self.options.max_skips is None else self.options.max_skips)
        if collapsed:
            log.warning(
                "the search collapses: after epoch %d, %d of the %d edges of the normal cell are skip connections%s",
                epoch,
                skips,
                edges,
                "; it stops here" if self.options.on_collapse == "stop" else "",
            )
        return collapsed

    def _velocities(self) -> list[torch.Tensor]:
        """The momentum buffers; zeros where there is no momentum."""
        if self.options.momentum == 0:
            return [torch.zeros_like(weight) for weight in self.weights]
        return [self.sgd.state[weight]["momentum_buffer"] for weight in self.weights]
