"""Stage `search`: find a student's architecture in a search space."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from nasdistill.component import Facts, Options
from nasdistill.errors import SpecError, UserError
from nasdistill.registry import ComponentOf, registry
from nasdistill.stages.base import STAGES, Context, Inputs, Like, Outcome, Specs, Stage
from nasdistill.stages.truth import judged, known_truth
from nasdistill.storage import write_json, write_text

if TYPE_CHECKING:
    from nasdistill.search.spaces import SearchSpace

GENOTYPE = "genotype.json"
HISTORY = "history.json"
DECISIONS = "decisions.json"
TRIALS = "trials.json"


class SearchOptions(Options):
    """Options of the stage beside the space."""

    strategy: Annotated[Any, ComponentOf("strategies")] = Field(
        "darts", validate_default=True, description="how to search, e.g. darts or {name: darts, order: 2}"
    )
    epochs: int | None = Field(None, gt=0, description="epochs of the strategy, in place of its own default")

    @model_validator(mode="after")
    def _epochs_are_given_once(self) -> SearchOptions:
        if self.epochs is None:
            return self
        if not self.strategy.has_epochs:
            raise SpecError(f"the strategy {self.strategy.registered_name!r} has no epochs", ("epochs",))
        if "epochs" in self.strategy.model_fields_set and self.strategy.epochs != self.epochs:
            problem = f"epochs is {self.epochs} here but {self.strategy.epochs} in the strategy; give it once"
            raise SpecError(problem, ("epochs",))
        longer = self.strategy.model_copy(update={"epochs": self.epochs})
        object.__setattr__(self, "strategy", longer)  # the config is frozen for others, and not finished here
        return self


@STAGES.register("search")
class Search(SearchOptions, Stage):
    """Search a network for the images at hand; the artifact is the network that was found, without weights."""

    source = "Liu et al. 2019, DARTS: Differentiable Architecture Search (arXiv:1806.09055)"
    makes = "architecture"

    space: Annotated[Any, ComponentOf("spaces")] = Field(
        examples=["darts-tiny"],
        description="where to search: a space's name, the path of a YAML file, or a mapping with options, "
        "e.g. {name: darts-tiny, cells: 5}",
    )

    @model_validator(mode="after")
    def _strategy_can_search_the_space(self) -> Search:
        reason = self.strategy.reason_to_refuse(self.space)
        if reason is not None:
            able = ", ".join(strategies_for(self.space)) or "none here"
            raise SpecError(
                f"the strategy {self.strategy.registered_name!r} cannot search the space "
                f"{self.space.registered_name!r}: {reason} (strategies that can: {able})",
                ("strategy",),
            )
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        from nasdistill.search.settings import CellOptions
        from nasdistill.search.spaces.cells import SKIP, CellSpace

        yield from super().without_effect(facts)
        cells = isinstance(self.strategy, CellOptions) and isinstance(self.space, CellSpace)
        if cells and SKIP not in self.space.operations:
            for name in self.strategy.differs("max_skips", "on_collapse"):
                yield f"strategy.{name}", f"the space {self.space.registered_name!r} has no skip connections"

    def foresee(self, specs: Specs, context: Context) -> Like | None:
        from nasdistill.models.base import NetworkSpec

        data = context.data
        try:
            choices = self.space.choices(data.shape, len(data.classes))
            first = {label: alternatives[0] for label, alternatives in choices.items()}
            spec = NetworkSpec.for_data(self.space.model(first), data)
        except (NotImplementedError, UserError):  # a space need not list its choices, and nni may be missing
            return None
        known_truth(spec.model)  # a damaged table is refused before the search, not after it
        return Like(spec)

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.models.base import Network, NetworkSpec, save_network
        from nasdistill.models.inspection import described
        from nasdistill.search.drawing import draw_graph

        data, space = context.data, self.space
        found = self.strategy.search(space, data, context.engine, context.seed, context.checkpoints(), context.records)
        spec = NetworkSpec.for_data(found.model, data)
        network = spec.build()
        save_network(context.folder, spec, None)
        history, truth = judged(context.stage, spec.model, found, space, context.folder)
        if history:
            write_json(context.folder / HISTORY, history)
        if found.decisions:
            write_json(context.folder / DECISIONS, {"edges": found.decisions})
        if found.trials:
            write_json(context.folder / TRIALS, found.trials)
        genotype = spec.model.cell_genotype()
        if genotype is not None:
            write_json(context.folder / GENOTYPE, genotype.model_dump(mode="json"))
            for graph in genotype.graphs():
                write_text(context.folder / f"{graph.kind}-cell.svg", draw_graph(graph))
        return Outcome(
            {**found.metrics, **truth, **described(network, spec.shape)}, Network(spec, network, trained=False)
        )


def strategies_for(space: SearchSpace) -> list[str]:
    """The names of the strategies that, with their defaults, can search `space`; of plugins those that are loaded."""
    strategies = registry("strategies")
    able = []
    for name in strategies.loaded():
        with contextlib.suppress(SpecError):  # one that has options without defaults is left out
            if strategies.parse(name).reason_to_refuse(space) is None:
                able.append(name)
    return able
