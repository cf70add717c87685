"""The control: a random architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch

from nasdistill.data.seeds import generator_for
from nasdistill.growth.budget import OverBudget
from nasdistill.models.genotypes import Cell
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import STRATEGIES, SearchResult, Strategy

if TYPE_CHECKING:
    from nasdistill.search.given import Given

MOST_LISTED = 100_000
"""Up to so many architectures of a space are put in order, so that none comes twice."""
MOST_REFUSED = 1000
"""Architectures in a row that keep no budget, after which there seem to be no others."""


def sample_cell(space: CellSpace, kind: str, generator: torch.Generator) -> Cell:
    """A cell whose nodes each read different earlier states, all choices and operations equally likely."""
    names = dict(zip(space.edges(), space.can_become(kind), strict=True))
    nodes = []
    for node in range(space.nodes):
        states = torch.randperm(node + space.inputs, generator=generator)[: space.kept(node)].sort().values.tolist()
        alternatives = [names[state, node] for state in states]
        picks = [int(torch.randint(len(each), (), generator=generator)) for each in alternatives]
        nodes.append(tuple((each[pick], state) for each, pick, state in zip(alternatives, picks, states, strict=True)))
    return tuple(nodes)


def sample(choices: Mapping[str, tuple[Any, ...]], generator: torch.Generator) -> dict[str, Any]:
    """One alternative of each label, all equally likely."""
    return {
        label: alternatives[int(torch.randint(len(alternatives), (), generator=generator))]
        for label, alternatives in choices.items()
    }


def in_random_order(choices: Mapping[str, tuple[Any, ...]], generator: torch.Generator) -> Iterator[dict[str, Any]]:
    """All architectures of a small space, each once; of a large one without end, any as likely as any other."""
    count = math.prod(map(len, choices.values()))
    while count > MOST_LISTED:
        yield sample(choices, generator)
    for number in torch.randperm(count, generator=generator).tolist():
        chosen = {}
        for label, alternatives in choices.items():
            number, index = divmod(number, len(alternatives))
            chosen[label] = alternatives[index]
        yield chosen


Drawn = TypeVar("Drawn")
Made = TypeVar("Made")


def those_within_budget(drawn: Iterable[Drawn], make: Callable[[Drawn], Made]) -> Iterator[tuple[Drawn, Made]]:
    """What is drawn with what `make` makes of it; what is `OverBudget` is passed over.

    Raises:
        OverBudget: nothing keeps the budget, or `MOST_REFUSED` in a row do not.
    """
    refused, found = 0, False
    reason: OverBudget | None = None
    for each in drawn:
        try:
            made = make(each)
        except OverBudget as error:
            refused, reason = refused + 1, error
            if refused == MOST_REFUSED:
                raise
            continue
        refused, found = 0, True
        yield each, made
    if reason is not None and not found:
        raise reason


@STRATEGIES.register("random")
class Random(Strategy):
    """A random architecture, a function of the seed alone: the baseline that a search must beat."""

    source: ClassVar[str] = "Li and Talwalkar 2019, Random Search and Reproducibility for NAS (arXiv:1902.07638)"

    def find(self, given: Given) -> SearchResult:
        space, generator = given.space, generator_for(given.seed, "random architecture")

        def drawn() -> Iterator[dict[str, Any]]:
            while isinstance(space, CellSpace):
                yield space.model_of({kind: sample_cell(space, kind, generator) for kind in space.kinds})
            choices = given.choices
            while True:
                yield space.model(sample(choices, generator))

        _model, model = next(those_within_budget(drawn(), lambda model: self.within_budget(model, given.data)))
        return SearchResult(model)
