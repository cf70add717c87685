"""Progressive DARTS: a search in stages, whose supernets grow deeper while their edges have ever fewer operations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from nasdistill.component import Facts, Options
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf
from nasdistill.search.edges.channels import Dense
from nasdistill.search.selections.strongest import Strongest
from nasdistill.search.spaces import SearchSpace
from nasdistill.search.spaces.cells import CellSpace
from nasdistill.search.strategies import STRATEGIES, SearchResult
from nasdistill.search.strategies.darts import DartsSearch
from nasdistill.search.strategies.successors import with_defaults

if TYPE_CHECKING:
    from nasdistill.search.given import Given
    from nasdistill.training.checkpoints import Checkpoints

Strengths = Mapping[str, Sequence[Mapping[str, float]]]

FEWEST_OPERATIONS = 2
"""With one there is nothing to search; and `none` may be among them, which not every network keeps."""


class ProgressiveStage(Options):
    """One supernet of several."""

    cells: float = Field(gt=0, le=1, description="its cells, as a share of those of the found network")
    operations: float = Field(
        gt=0, le=1, description="share of the operations that each edge has left, the strongest ones; two at least"
    )
    edges: Annotated[Any, ComponentOf("edges")] = Field(
        "dense", validate_default=True, description="what lies on an edge, e.g. {name: skip-dropout, rate: 0.4}"
    )


@with_defaults(
    epochs=75,
    batch_size=96,
    lr_end=0.0,
    alpha_lr=6e-4,
    warm_up=0.4,
    selection={"name": "capped-skips", "skips": 2},
)
@STRATEGIES.register("p-darts")
class PDarts(DartsSearch):
    """Search in stages: each has a deeper supernet, trained anew, where each edge keeps its strongest operations alone.

    The stages share `epochs` evenly, and each begins with its own warm-up. In the space of DARTS they have 5, 11 and 17
    cells, and 8, 5 and 3 operations an edge. `selection` is that of the last stage. A search that stops within a stage
    ends with it.
    """

    source: ClassVar[str] = "Chen et al. 2019, P-DARTS (arXiv:1904.12760)"
    has_supernet: ClassVar[bool] = False

    stages: tuple[ProgressiveStage, ...] = Field(
        (
            {"cells": 0.25, "operations": 1.0},
            {"cells": 0.55, "operations": 0.625, "edges": {"name": "skip-dropout", "rate": 0.4}},
            {"cells": 0.85, "operations": 0.375, "edges": {"name": "skip-dropout", "rate": 0.7}},
        ),
        validate_default=True,
        min_length=1,
        description="the supernets one after the other",
    )

    @model_validator(mode="after")
    def _operations_become_fewer(self) -> PDarts:
        shares = [stage.operations for stage in self.stages]
        if shares[0] < 1:
            raise SpecError("the first stage has all operations, 1", ("stages", 0, "operations"))
        for number, (before, now) in enumerate(itertools.pairwise(shares), 1):
            if now > before:
                problem = f"edges only lose operations, but {now:g} of them come after {before:g}"
                raise SpecError(problem, ("stages", number, "operations"))
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.edges != Dense():
            yield "edges", "`stages` say what lies on the edges of each"

    def of_stage(self, number: int) -> PDarts:
        """The options of one of the stages."""
        before, until = (self.epochs * at // len(self.stages) for at in (number, number + 1))
        last = number + 1 == len(self.stages)
        return self.model_copy(
            update={
                "epochs": until - before,
                "edges": self.stages[number].edges,
                "selection": self.selection if last else Strongest(),
            }
        )

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        if self.epochs < len(self.stages):
            return f"its {len(self.stages)} stages need an epoch each, and there are {self.epochs}"
        stages = map(self.of_stage, range(len(self.stages)))
        return next(filter(None, (super(PDarts, stage).reason_to_refuse(space) for stage in stages)), None)

    def reason_to_keep_no_weights(self, space: SearchSpace) -> str | None:
        return "its supernets have other numbers of cells than the network"

    def find(self, given: Given) -> SearchResult:
        curves: dict[str, list[list[Any]]] = {}
        found: list[list[Any]] = []
        epochs = 0
        strengths: dict[str, list[dict[str, float]]] = {}
        for number in range(len(self.stages)):
            ended = given.phases.run(partial(self._learned, number, strengths, given))
            for name, points in ended["history"]["curves"].items():
                curves.setdefault(name, []).extend(counted_on(points, epochs))
            found += counted_on(ended["history"]["found"], epochs)
            epochs, strengths = epochs + ended["metrics"]["epochs"], ended["strengths"]
            if ended["stopped"]:
                break
        return SearchResult(
            self.within_budget(ended["model"], given.data),
            history={"curves": curves, "found": found},
            metrics={**ended["metrics"], "epochs": epochs},
            decisions=ended["decisions"],
            strengths=strengths,
        )

    def _learned(self, number: int, strengths: Strengths, given: Given, checkpoints: Checkpoints) -> dict[str, Any]:
        """What one stage came to: a `SearchResult` as plain data, and whether the search ends with it."""
        import torch

        from nasdistill.data.seeds import derived_seed
        from nasdistill.search.cell_learner import CellLearner
        from nasdistill.search.gradient import learn

        assert isinstance(given.space, CellSpace)
        options, space = self.of_stage(number), narrowed(given.space, self.stages[number], strengths)
        torch.manual_seed(derived_seed(given.seed, "stage of a search", number))
        learner = CellLearner(options, space, given.data, given.engine, given.seed)
        records = given.records.part(f"stage {number + 1}")
        result = learn(learner, options, replace(given, checkpoints=checkpoints, records=records))
        plain = {name: getattr(result, name) for name in ("model", "history", "metrics", "decisions", "strengths")}
        return {**plain, "stopped": learner.stopped}


def counted_on(points: Sequence[list[Any]], before: int) -> list[list[Any]]:
    """Points over the epochs of one stage as points over those of all, of which so many were done before it.

    How a stage began is left out where there is one before, which has its end there.
    """
    return [[before + epoch, value] for epoch, value in points if epoch or not before]


def narrowed(space: CellSpace, stage: ProgressiveStage, strengths: Strengths) -> CellSpace:
    """The space as a stage searches it: of each edge the operations that were strongest, `none` among them.

    Args:
        strengths: in the end of the stage before, see `SearchResult`; of equals the earlier operation stays.
    """
    size = {"search_cells": max(space.fewest_cells, int(stage.cells * space.cells + 0.5))}
    if not strengths:
        return space.model_copy(update=size)
    operations = {}
    for kind, edges in strengths.items():
        count = max(FEWEST_OPERATIONS, int(stage.operations * len(space.offered(kind)[0]) + 0.5))
        best = (sorted(edge, key=edge.__getitem__, reverse=True)[:count] for edge in edges)
        operations[kind] = tuple(tuple(filter(kept.__contains__, edge)) for edge, kept in zip(edges, best, strict=True))
    return space.model_copy(update={**size, "edge_operations": operations})
