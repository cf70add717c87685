"""What a relaxed cell costs in expectation, against a budget: the term that keeps searches by gradient within it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from nasdistill.growth.budget import Budget
from nasdistill.models.base import NetworkSpec
from nasdistill.search.budgeted import uniform_cell
from nasdistill.search.mixture import Mixture
from nasdistill.search.spaces.cells import CellSpace

if TYPE_CHECKING:
    from nasdistill.data.base import Data

TINY = 1e-6


class ExpectedCost:
    """The expected share of a budget that the network of some mixtures needs.

    As if the costs of edges add up, which those of parameters and multiply-adds do. What an operation costs in a kind
    of cell, c, is the difference of the networks in which all edges of these cells have it and have the first one,
    divided by the edges that are kept. With weights p, scaled to the sum 1 over the operations that may be found,

        cost = cost(first everywhere) + sum over edges of P(kept) * sum_k p_k c_k,

    where each edge of a node is as likely kept as any. Networks have the space's own channels and cells.

    Attributes:
        base: by limit the share that the network with the first operation of each kind of cell needs.
        costs: of an edge by kind of cell and limit, [limits, edges, operations]; of what no network keeps 0.

    Source: the expected latency of Cai et al. 2019, ProxylessNAS (arXiv:1812.00332), section 3.2.
    """

    def __init__(self, space: CellSpace, budget: Budget, data: Data, device: torch.device) -> None:
        limits = budget.limits()
        outcomes = space.outcomes()
        operations = {
            kind: list(dict.fromkeys(itertools.chain.from_iterable(space.can_become(kind)))) for kind in space.kinds
        }
        first = {kind: uniform_cell(space, names[0]) for kind, names in operations.items()}

        def shares(**cells: object) -> torch.Tensor:
            model = space.model_of({**first, **cells})  # type: ignore[dict-item]
            needs = budget.estimated(NetworkSpec.for_data(model, data))
            return torch.tensor([needs[name] / limit for name, limit in limits.items()])

        base = shares()
        self.base = base.to(device)
        likely = [space.kept(node) / (node + space.inputs) for _state, node in space.edges()]
        self.costs, self.found = {}, {}
        for kind in space.kinds:
            more = {
                name: (shares(**{kind: uniform_cell(space, name)}) - base) / sum(likely) for name in operations[kind]
            }
            costs = torch.zeros(len(limits), len(likely), len(space.offered(kind)[0]))
            for row, names in enumerate(space.offered(kind)):
                for column, name in enumerate(names):
                    if name in outcomes:
                        costs[:, row, column] = likely[row] * more[name]
            self.costs[kind] = costs.to(device)
            self.found[kind] = torch.tensor(
                [[float(name in outcomes) for name in names] for names in space.offered(kind)], device=device
            )

    def share(self, mixtures: Sequence[Mixture]) -> torch.Tensor:
        """Of the limit that is used most, a scalar; above 1 the network is too large."""
        total = self.base
        for mixture in mixtures:
            weights = mixture.weights * self.found[mixture.cell]
            weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(TINY)
            total = total + (self.costs[mixture.cell] * weights).sum(dim=(1, 2))
        return total.max()

    def excess(self, mixtures: Sequence[Mixture]) -> torch.Tensor:
        """By how much the share is above 1, else 0."""
        return torch.relu(self.share(mixtures) - 1)
