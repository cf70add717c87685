"""How decided a search by gradient is: the lead of what each edge keeps, beside the noise of the steps that made it.

The steps fall into two halves, by turns. What the images decide moves the alphas alike in both; what chance decides
does not. So of a lead m = m_1 + m_2, the sum of what both halves made of it, the noise is estimated by the m_1 - m_2
of all edges: if the halves are independent, m and m_1 - m_2 have the same variance.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

BLOCK = 8
"""Steps in a row that go to the same half: Adam's memory of gradients (beta 0.5) reaches over about two."""

NOISES = 2.0
"""A lead counts as decided from so many standard deviations of its noise on."""


@dataclass(frozen=True)
class Decision:
    """What one edge keeps.

    Attributes:
        cell: its kind.
        state, node: which its edge joins, as in `CellSpace.edges`.
        kept, next: its strongest operation, and the one after it.
        margin: how far the first is ahead of the second, in units of alpha.
        noise: standard deviation that chance alone gives such a margin; the same for all edges of that kind of cell.
    """

    cell: str
    state: int
    node: int
    kept: str
    next: str
    margin: float
    noise: float

    @property
    def decided(self) -> bool:
        return self.margin > NOISES * self.noise

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"decided": self.decided}


class Moves:
    """How far parameters moved in each half of the steps, as part of a checkpoint."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self.parameters = parameters
        self.halves = [[torch.zeros_like(parameter) for parameter in parameters] for _ in range(2)]

    @contextlib.contextmanager
    def of(self, step: int) -> Iterator[None]:
        """What moves within this block counts for the half that the step of this number belongs to."""
        before = [parameter.detach().clone() for parameter in self.parameters]
        yield
        with torch.no_grad():
            for moved, parameter, start in zip(self.halves[step // BLOCK % 2], self.parameters, before, strict=True):
                moved += parameter - start

    def state_dict(self) -> dict[str, Any]:
        return {"halves": self.halves}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for half, saved in zip(self.halves, state["halves"], strict=True):
            for moved, value in zip(half, saved, strict=True):
                moved.copy_(value)


def decisions(
    cell: str,
    edges: Sequence[tuple[int, int]],
    offered: Sequence[Sequence[str]],
    outcomes: Collection[str],
    alphas: torch.Tensor,
    halves: Sequence[torch.Tensor],
    spread: float,
) -> list[Decision]:
    """The decision of each edge.

    Args:
        edges: (state, node), in the order of the rows.
        offered: of each edge its operations, in the order of the columns.
        outcomes: the operations that may be kept.
        alphas: in the end, [edges, operations].
        halves: how far the steps of either half moved them, of that shape.
        spread: standard deviation of the alphas at the start, which is chance as well.

    Returns:
        one for each edge; none for those with one candidate, as nothing is decided there.
    """
    best: dict[int, list[int]] = {}
    for row, (names, values) in enumerate(zip(offered, alphas.tolist(), strict=True)):
        ranked = sorted((-values[column], column) for column, name in enumerate(names) if name in outcomes)
        if len(ranked) > 1:
            best[row] = [column for _value, column in ranked[:2]]
    if not best:
        return []
    rows, (kept, following) = list(best), map(list, zip(*best.values(), strict=True))

    def lead(of: torch.Tensor) -> torch.Tensor:
        return of[rows, kept].double() - of[rows, following].double()

    difference = lead(halves[0]) - lead(halves[1])
    noise = math.sqrt(float(difference.square().mean()) + 2 * spread**2)
    return [
        Decision(cell, *edges[row], offered[row][first], offered[row][second], margin, noise)
        for (row, (first, second)), margin in zip(best.items(), lead(alphas).tolist(), strict=True)
    ]


def undecided(found: Sequence[Decision]) -> str | None:
    """What to tell the user where chance decided half of the edges or more, as a sentence; None where it did not."""
    by_chance = [decision for decision in found if not decision.decided]
    if not found or 2 * len(by_chance) < len(found):
        return None
    median = sorted(by_chance, key=lambda decision: decision.margin)[len(by_chance) // 2]
    return (
        f"chance decided {len(by_chance)} of the {len(found)} edges: what they keep is ahead by less than {NOISES:g} "
        f"times its noise, such as {median.kept} over {median.next} by {median.margin:.2g} (noise {median.noise:.2g}) "
        f"from state {median.state} to node {median.node} of the {median.cell} cell"
    )
