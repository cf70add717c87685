"""Spaces under a budget: whether any network of a space keeps it, and how large those of a space of cells become."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from nasdistill.growth.budget import Budget, counted, narrowest
from nasdistill.models.base import NetworkSpec
from nasdistill.models.genotypes import Cell
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.cells import CellSpace

if TYPE_CHECKING:
    from nasdistill.data.base import Data

S = TypeVar("S", bound=SearchSpace)

NARROWEST = 8
"""Channels of the first cells below which a space gets fewer cells, and of a supernet's at least."""
STEP = 4
"""A supernet's channels are a multiple of this, so that edges can compute a part of them."""
ROUNDS = 3


def check_space(space: SearchSpace, budget: Budget, data: Data) -> None:
    """Refuse a budget that no network of a space keeps.

    Alternatives that several labels share are taken for all of them alike: of each such group the alternative whose
    narrowest network costs least, one group after the other, as long as that changes anything.

    Raises:
        OverBudget: the smallest network is too large.
    """
    choices = space.choices(data.shape, len(data.classes))
    groups: dict[str, list[str]] = {}
    for label, alternatives in choices.items():
        groups.setdefault(repr(alternatives), []).append(label)
    chosen = {label: alternatives[0] for label, alternatives in choices.items()}

    def spec(architecture: Mapping[str, Any]) -> NetworkSpec:
        return NetworkSpec.for_data(space.model(architecture), data)

    for _ in range(ROUNDS):
        before = dict(chosen)
        for labels in groups.values():
            others = [{**chosen, **dict.fromkeys(labels, each)} for each in choices[labels[0]]]
            chosen = min((chosen, *others), key=lambda each: counted(budget, narrowest(spec(each))))
        if chosen == before:
            break
    budget.fitted(spec(chosen))


def in_size(space: S, budget: Budget | None, data: Data) -> S:
    """A space of cells whose networks and supernets have about the budget's size, where it does not say their own.

    Channels and cells of what is found are those of an average architecture, whose edges have one operation after the
    other, once it is fitted to the budget; a supernet keeps its proportion to them.

    Raises:
        OverBudget: the smallest network of that architecture is too large.
    """
    if budget is None or not isinstance(space, CellSpace) or "widths" in space.model_fields_set:
        return space
    own = space.model_dump(include={"channels", "cells", "search_channels", "search_cells"})
    average = NetworkSpec.for_data(space.model_of({kind: average_cell(space, kind) for kind in space.kinds}), data)
    fitted = budget.fitted(average, NARROWEST).model
    channels, cells = max(2, fitted.base_width()), fitted.blocks()
    wide = STEP * round(own["search_channels"] * channels / own["channels"] / STEP)
    deep = round(own["search_cells"] * cells / own["cells"])
    sizes = {
        "channels": channels,
        "cells": cells,
        "search_channels": max(min(NARROWEST, own["search_channels"]), wide),
        "search_cells": max(space.fewest_cells, deep),
    }
    return space.model_copy(update={name: size for name, size in sizes.items() if name not in space.model_fields_set})


def average_cell(space: CellSpace, kind: str) -> Cell:
    """A cell whose edges, those from the first states, have one operation after the other."""
    turns = itertools.count()
    names = dict(zip(space.edges(), space.can_become(kind), strict=True))

    def operation(state: int, node: int) -> str:
        return names[state, node][next(turns) % len(names[state, node])]

    return _cell(space, operation)


def uniform_cell(space: CellSpace, operation: str) -> Cell:
    """A cell whose edges, those from the first states, all have this operation, which not all of them need to offer."""
    return _cell(space, lambda _state, _node: operation)


def _cell(space: CellSpace, operation: Callable[[int, int], str]) -> Cell:
    return tuple(
        tuple((operation(state, node), state) for state in range(space.kept(node))) for node in range(space.nodes)
    )
