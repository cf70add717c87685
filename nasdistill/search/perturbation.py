"""Selection by perturbation: an operation counts as much as the supernet loses without it.

Source: Wang et al. 2021, Rethinking Architecture Selection in Differentiable NAS (arXiv:2108.04392), algorithm 1.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import torch

from nasdistill.data.seeds import generator_for
from nasdistill.models.genotypes import Cell
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.weight_sharing import accuracy_of

if TYPE_CHECKING:
    from nasdistill.search.cell_learner import CellLearner

log = logging.getLogger(__name__)


class Perturbation:
    """What decides a trained supernet, edge by edge.

    Args:
        tuning_epochs: of supernet and architecture between decisions, at a tenth of the learning rate.
    """

    def __init__(self, learner: CellLearner, tuning_epochs: int) -> None:
        self.learner, self.supernet, self.space = learner, learner.supernet, learner.space
        self.tuning_epochs = tuning_epochs
        self.epoch = learner.options.epochs

    def cells(self) -> dict[str, Cell]:
        """By kind; first each edge has one operation left, then each node as many edges as the space says."""
        edges, generator = self.space.edges(), generator_for(self.learner.seed, "order of decisions")
        for row in torch.randperm(len(edges), generator=generator).tolist():
            self.tune()
            for kind in self.space.kinds:
                self.supernet.decided[kind, row] = self.operation(kind, row)
        rows_of = [
            [row for row, (_state, node) in enumerate(edges) if node == each] for each in range(self.space.nodes)
        ]
        for node in torch.randperm(self.space.nodes, generator=generator).tolist():
            if len(rows_of[node]) == self.space.kept(node):
                continue
            self.tune()
            for kind in self.space.kinds:
                rows = list(rows_of[node])
                while len(rows) > self.space.kept(node):
                    weakest = max(rows, key=lambda row: self.without(kind, row))
                    rows.remove(weakest)
                    self.supernet.decided[kind, weakest] = None
        return {kind: self._cell(kind) for kind in self.space.kinds}

    def operation(self, kind: str, row: int) -> int:
        """The column of the operation without which the supernet is worst."""
        outcomes = self.space.outcomes()
        columns = [column for column, name in enumerate(self.space.offered(kind)[row]) if name in outcomes]
        return min(columns, key=lambda column: self.without(kind, row, column))

    @torch.no_grad()
    def without(self, kind: str, row: int, column: int | None = None) -> float:
        """Accuracy on the architecture's half without an operation of an edge, or without the edge."""

        def perturbed(mixture: Mixture) -> Mixture:
            weights = mixture.weights.clone()
            weights[row, slice(None) if column is None else column] = 0
            return dataclasses.replace(mixture, weights=weights) if mixture.cell == kind else mixture

        mixtures = [perturbed(mixture) for mixture in self.supernet.mixture(Moment(1.0))]
        return accuracy_of(
            lambda images: self.supernet(images, mixtures),
            self.learner.architecture_batches,
            self.learner.options.epochs,
            self.learner.engine,
        )

    def tune(self) -> None:
        """Weights and what is left of the architecture adapt to what was decided, if anything was."""
        if not self.supernet.decided:
            return
        self.learner.sgd.param_groups[0]["lr"] = self.learner.options.lr / 10
        batches = self.learner.weight_batches, self.learner.architecture_batches
        steps = min(map(len, batches))
        for _ in range(self.tuning_epochs):
            pairs = zip(*(half.epoch(self.epoch) for half in batches), strict=False)
            for number, pair in enumerate(pairs, self.epoch * steps):
                self.learner.step(number, *pair)
            self.epoch += 1
        log.info("selection by perturbation: %d decisions are made", len(self.supernet.decided))

    def _cell(self, kind: str) -> Cell:
        kept = [
            (node, self.space.offered(kind)[row][column], state)
            for row, (state, node) in enumerate(self.space.edges())
            if (column := self.supernet.decided[kind, row]) is not None
        ]
        return tuple(
            tuple((name, state) for reader, name, state in kept if reader == node) for node in range(self.space.nodes)
        )
