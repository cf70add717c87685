"""Stage `search`: find a student's architecture in a search space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from nasdistill.artifacts import Artifact
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf
from nasdistill.stages.base import STAGES, Context, Outcome, Stage
from nasdistill.storage import write_json, write_text

GENOTYPE = "genotype.json"
HISTORY = "history.json"


@STAGES.register("search")
class Search(Stage):
    """Search cells for the images at hand; the artifact is the network that is built from them, without weights."""

    source = "Liu et al. 2019, DARTS: Differentiable Architecture Search (arXiv:1806.09055)"
    makes = "architecture"

    space: Annotated[Any, ComponentOf("spaces")] = Field(
        examples=["darts-tiny"],
        description="where to search: a space's name, the path of a YAML file, or a mapping with options, "
        "e.g. {name: darts-tiny, cells: 5}",
    )
    strategy: Annotated[Any, ComponentOf("strategies")] = Field(
        "darts", validate_default=True, description="how to search, e.g. darts or {name: darts, order: 2}"
    )
    epochs: int | None = Field(None, gt=0, description="epochs of the strategy, in place of its own default")

    @model_validator(mode="after")
    def _strategy_has_epochs(self) -> Search:
        if self.epochs is not None and "epochs" not in type(self.strategy).model_fields:
            raise SpecError(f"the strategy {self.strategy.registered_name!r} has no epochs", ("epochs",))
        return self

    def run(self, inputs: Mapping[str, Artifact], context: Context) -> Outcome:
        from nasdistill.models.base import NetworkSpec, save_network
        from nasdistill.models.inspection import count_parameters, multiply_adds
        from nasdistill.registry import registry
        from nasdistill.report.cells import draw_cell

        strategy = self.strategy if self.epochs is None else self.strategy.model_copy(update={"epochs": self.epochs})
        data, space = context.data, self.space
        found = strategy.search(space, data, context.engine, context.seed, context.checkpoints(), context.records)
        model = {
            "name": "darts",
            "genotype": found.genotype,
            "channels": space.channels,
            "cells": space.cells,
            "widths": space.widths,
            "stem_multiplier": space.stem_multiplier,
            "auxiliary": space.auxiliary,
            "drop_path": space.drop_path,
        }
        spec = NetworkSpec(
            model=registry("models").parse(model),
            shape=data.shape,
            classes=len(data.classes),
            labels=data.classes,
            normalisation=data.normalisation,
        )
        network = spec.build()
        genotype = found.genotype.model_dump(mode="json")
        save_network(context.folder, spec, None)
        write_json(context.folder / GENOTYPE, genotype)
        if found.history:
            write_json(context.folder / HISTORY, found.history)
        for name, edges in (("normal", found.genotype.normal), ("reduce", found.genotype.reduce)):
            write_text(context.folder / f"{name}-cell.svg", draw_cell(edges, f"{name} cell"))
        return Outcome(
            {
                **found.metrics,
                "parameters": count_parameters(network),
                "multiply_adds": multiply_adds(network, spec.shape),
            }
        )
