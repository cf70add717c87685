"""Stage `search`: find a student's architecture in a search space."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from nasdistill.component import Facts, Options, classes_in
from nasdistill.errors import SpecError, found_at
from nasdistill.growth.budget import Budget, OverBudget
from nasdistill.registry import ComponentOf, registry
from nasdistill.stages.base import STAGES, Context, Inputs, Like, Outcome, Reference, Specs, Stage
from nasdistill.stages.kept_supernets import keep, state_to_go_on_from
from nasdistill.stages.truth import judged, known_truth
from nasdistill.storage import write_json, write_text
from nasdistill.versions import version

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.spaces import SearchSpace

log = logging.getLogger(__name__)

GENOTYPE = "genotype.json"
HISTORY = "history.json"
DECISIONS = "decisions.json"
TRIALS = "trials.json"


class SearchOptions(Options):
    """Options of the stage beside the space."""

    strategy: Annotated[Any, ComponentOf("strategies")] = Field(
        "auto", validate_default=True, description="how to search, e.g. darts or {name: darts, order: 2}"
    )
    epochs: int | None = Field(None, gt=0, description="epochs of the strategy, in place of its own default")
    budget: Budget | None = Field(
        None,
        description="what the found network may cost, e.g. {parameters: 300k, latency_ms: 5}; a number alone limits "
        "parameters. It is scaled to the largest size that keeps the budget",
    )
    keep_weights: bool = Field(
        False,
        description="keep with the network that is found the weights that the search trained of it, from which "
        "`train` and `distill` start unless they say `fresh`",
    )

    @model_validator(mode="after")
    def _epochs_are_given_once(self) -> SearchOptions:
        if self.epochs is None:
            return self
        if (reason := self.strategy.reason_to_have_no_epochs()) is not None:
            raise SpecError(f"the strategy {self.strategy.registered_name!r} {reason}", ("epochs",))
        if "epochs" in self.strategy.model_fields_set and self.strategy.epochs != self.epochs:
            problem = f"epochs is {self.epochs} here but {self.strategy.epochs} in the strategy; give it once"
            raise SpecError(problem, ("epochs",))
        longer = self.strategy.model_copy(update={"epochs": self.epochs})
        object.__setattr__(self, "strategy", longer)  # the config is frozen for others, and not finished here
        return self

    @model_validator(mode="after")
    def _budget_is_given_once(self) -> SearchOptions:
        if self.budget is None:
            return self
        if self.strategy.budget not in (None, self.budget):
            raise SpecError("the strategy has another budget; give it once", ("budget",))
        within = self.strategy.model_copy(update={"budget": self.budget})
        object.__setattr__(self, "strategy", within)
        return self


@STAGES.register("search")
class Search(SearchOptions, Stage):
    """Search a network for the images at hand; the artifact is the network that was found."""

    source = "Liu et al. 2019, DARTS: Differentiable Architecture Search (arXiv:1806.09055)"
    makes = "architecture"

    space: Annotated[Any, ComponentOf("spaces")] = Field(
        examples=["darts-tiny"],
        description="where to search: a space's name, the path of a YAML file, or a mapping with options, "
        "e.g. {name: darts-tiny, cells: 5}",
    )
    keep_supernet: bool = Field(
        False, description="keep the trained supernet in the artifact, so that more epochs can go on with it"
    )
    resume_from: Annotated[str | None, Reference("architecture")] = Field(
        None,
        description="a finished search that kept its supernet, to go on with until `epochs` are done: a stage, or the "
        "folder of its artifact or run",
    )

    @model_validator(mode="after")
    def _has_what_goes_on(self) -> Search:
        for name in ("keep_supernet", "resume_from"):
            if getattr(self, name) and not self.strategy.has_supernet:
                problem = f"the strategy {self.strategy.registered_name!r} has no supernet to go on with"
                able = "those that learn by gradient have one, such as --strategy darts (in a recipe, strategy: darts)"
                raise SpecError(f"{problem}; {able}", (name,))
        if self.resume_from is not None and "epochs" not in self.strategy.model_fields_set:
            raise SpecError("a search that goes on needs to know until how many epochs are done", ("epochs",))
        return self

    @model_validator(mode="after")
    def _strategy_can_search_the_space(self) -> Search:
        reason = self.strategy.reason_to_refuse(self.space)
        if reason is not None:
            able, name = list(strategies_for(self.space)), self.strategy.registered_name
            others = f" (strategies that can: {', '.join(able) or 'none here'})"
            raise SpecError(
                f"the strategy {name!r} cannot search the space {self.space.registered_name!r}"
                + (f" with these options: {reason}" if name in able else f": {reason}{others}"),
                ("strategy",),
            )
        return self

    @model_validator(mode="after")
    def _has_weights_to_keep(self) -> Search:
        if self.keep_weights and (reason := self.strategy.reason_to_keep_no_weights(self.space)) is not None:
            problem = f"the strategy {self.strategy.registered_name!r} cannot keep weights in the space "
            raise SpecError(f"{problem}{self.space.registered_name!r}: {reason}", ("keep_weights",))
        budget = self.strategy.budget
        if self.keep_weights and budget is not None and (budget.bytes or budget.latency_ms):
            reason = "the network that is found may be made smaller once its file is measured"
            raise SpecError(f"weights cannot be kept within a budget of bytes or latency: {reason}", ("keep_weights",))
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        from nasdistill.search.settings import CellOptions
        from nasdistill.search.spaces.cells import SKIP, CellSpace
        from nasdistill.search.strategies.auto import Auto
        from nasdistill.search.strategies.proxy import ProxySearch

        yield from super().without_effect(facts)
        given = isinstance(self.strategy, Auto) and "epochs" in self.strategy.model_fields_set and facts.training
        if given and isinstance(self.strategy.chosen(self.space, sum(facts.training)), ProxySearch):
            reason = "auto searches by proxies here, which train nothing; epochs only decide by what it searches"
            yield "epochs" if self.epochs is not None else "strategy.epochs", reason
        cells = isinstance(self.strategy, CellOptions) and isinstance(self.space, CellSpace)
        if cells and SKIP not in self.space.operations:
            for name in self.strategy.differs("max_skips", "on_collapse"):
                yield f"strategy.{name}", f"the space {self.space.registered_name!r} has no skip connections"

    def foresee(self, specs: Specs, context: Context) -> Like | None:
        from nasdistill.models.base import NetworkSpec

        if self.resume_from is not None and os.path.isabs(self.resume_from):  # else it is a stage yet to run
            self._begin(Path(self.resume_from), context)
        self.strategy.check_installed()
        data = context.data
        try:
            self._check_budget(data)
            choices = self.space.choices(self._read(data).shape, len(data.classes))
            first = {label: alternatives[0] for label, alternatives in choices.items()}
            spec = NetworkSpec.for_data(self._at_size(self.space.model(first)), data)
        except OverBudget as error:
            problem = f"no network of the space {self.space.registered_name!r} keeps it: {error}"
            raise SpecError(problem, ("budget",)) from None
        except NotImplementedError:  # a space need not list its choices
            return None
        known_truth(spec.model)  # a damaged table is refused before the search, not after it
        return Like(spec)

    def _check_budget(self, data: Data) -> None:
        from nasdistill.search.budgeted import check_space

        if self.strategy.budget is not None:
            check_space(self.space, self.strategy.budget, self._read(data))

    def _read(self, data: Data) -> Data:
        """The data set at the size that the space's networks read."""
        from nasdistill.data.preparation import at_size

        return data if self.space.size is None else at_size(data, self.space.size)

    def _at_size(self, model: dict[str, Any]) -> dict[str, Any]:
        """A model that was found for images of that size, as one for the data set's own."""
        return model if self.space.size is None else {**model, "size": self.space.size}

    def _begin(self, folder: Path, context: Context) -> dict[str, Any]:
        return state_to_go_on_from(folder, self._identity(context), self.strategy.epochs)

    def _identity(self, context: Context) -> dict[str, Any]:
        """What must be the same in a search that goes on with this one, as plain data."""
        strategy = {name: value for name, value in self.strategy.spec().items() if name != "epochs"}
        return {
            "space": self.space.spec(),
            "strategy": strategy,
            "seed": context.seed,
            "data": dict(context.data_identity),
            "code": version(classes_in(self)).removeprefix("sha256:")[:12],
        }

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        import torch

        from nasdistill.models.base import Network, NetworkSpec, save_network
        from nasdistill.models.inspection import described
        from nasdistill.search.budgeted import in_size
        from nasdistill.search.drawing import draw_graph

        data, budget = context.data, self.strategy.budget
        with found_at("budget"):
            space = in_size(self.space, budget, self._read(data))
        begin = self._begin(inputs["resume_from"].folder, context) if self.resume_from else None
        checkpoints = context.checkpoints(begin=begin)
        found = self.strategy.search(
            space, self._read(data), context.engine, context.seed, checkpoints, context.records
        )
        spec = NetworkSpec.for_data(self._at_size(found.model), data)
        needs: dict[str, Any] = {}
        if budget is not None:
            spec, needs["budget"] = budget.settled(spec, first=spec)
            log.info("it keeps the budget: %s", budget.kept(needs["budget"]))
        torch.manual_seed(context.seed)  # for what no search trains, such as auxiliary heads
        network = spec.build()
        if self.keep_weights:
            assert found.hand_over is not None  # the strategy said that it can
            found.hand_over(network)
        save_network(context.folder, spec, network.cpu() if self.keep_weights else None)
        if self.keep_supernet and checkpoints.writes:
            keep(context.folder, self._identity(context), self.strategy.epochs, checkpoints.load())
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
            {**found.metrics, **truth, **needs, **described(network, spec.reads)},
            Network(spec, network, trained=self.keep_weights),
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
