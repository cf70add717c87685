"""Stage `truth`: what architectures score once they are trained, from the table of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from nasdistill.errors import SpecError, found_at
from nasdistill.stages.base import STAGES, Context, Inputs, Outcome, Place, Reference, Specs, Stage, path_of
from nasdistill.storage import write_json

if TYPE_CHECKING:
    from nasdistill.models.base import Model
    from nasdistill.search.spaces import SearchSpace
    from nasdistill.search.strategies import SearchResult
    from nasdistill.truth import nas_bench_201

TRUTH = "truth.json"


@STAGES.register("truth")
class Truth(Stage):
    """Tell what cells of NAS-Bench-201 score once they are trained, from the benchmark's table.

    Test accuracy on three data sets, rank among all 15,625 cells, and regret: the points that the best cell has more.
    Nothing is trained. A network is known by its cell, whatever its size.
    """

    source = "Dong and Yang 2020, NAS-Bench-201 (arXiv:2001.00326)"
    makes = "metrics"
    reads_data = False
    positional: ClassVar[tuple[str, ...]] = ("architectures",)

    architectures: Annotated[list[str | dict[str, Any]], Reference("architecture", or_model=True)] = Field(
        min_length=1,
        description="whose truth is told: cells such as '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|', searches, or the "
        "folders of artifacts",
        examples=[["|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"]],
    )

    def foresee(self, specs: Specs, context: Context) -> None:
        from nasdistill.models.base import NetworkSpec
        from nasdistill.truth.nas_bench_201 import truth_of

        for place, architecture in self._listed():
            with found_at(*path_of(place)):
                if place not in specs:
                    truth_of(_model(architecture))
                elif isinstance(spec := specs[place], NetworkSpec):  # else the run will know
                    truth_of(spec.model)

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.models.base import load_spec
        from nasdistill.truth.nas_bench_201 import truth_of

        told = []
        for place, architecture in self._listed():
            with found_at(*path_of(place)):
                given, artifact = context.networks.get(place), inputs.get(place)
                spec = given.spec if given else load_spec(artifact.folder) if artifact else None
                truth = truth_of(spec.model if spec else _model(architecture))
            told.append({"name": architecture, **truth.plain()})
        write_json(context.folder / TRUTH, {"architectures": told})
        return Outcome({"architectures": len(told)})

    def _listed(self) -> Iterator[tuple[Place, str | dict[str, Any]]]:
        return ((("architectures", number), each) for number, each in enumerate(self.architectures))


def _model(architecture: str | dict[str, Any]) -> Model:
    from nasdistill.models.base import MODELS

    return MODELS.parse(architecture)


def known_truth(model: Model) -> nas_bench_201.Truth | None:
    """What is true of a model's cell, None where no table knows it.

    Raises:
        DamagedFile: the table is not as it was installed.
    """
    from nasdistill.truth.nas_bench_201 import truth_of

    try:
        return truth_of(model)
    except SpecError:
        return None


def judged(
    name: str, model: Model, found: SearchResult, space: SearchSpace, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a search found is judged after its end, if a table knows it, and written to a folder.

    Args:
        name: of the search.

    Returns:
        the history, with the regret of what would have been found before, and metrics.
    """
    from nasdistill.truth.nas_bench_201 import regret_curves

    history = dict(found.history)
    truth = known_truth(model)
    if truth is None:
        return history, {}
    write_json(folder / TRUTH, {"architectures": [{"name": name, **truth.plain()}]})
    metrics: dict[str, Any] = {
        "truth": {
            data_set: {"accuracy": each.accuracy, "rank": each.rank, "regret": each.regret}
            for data_set, each in truth.standings.items()
        }
    }
    if (correlations := _rank_correlations(found, space)) is not None:
        metrics["rank_correlation"] = correlations
    if "found" in history:
        regrets = regret_curves((x, _model(then)) for x, then in history["found"])
        history["curves"] = history["curves"] | regrets
    return history, metrics


def _rank_correlations(found: SearchResult, space: SearchSpace) -> dict[str, float] | None:
    """Spearman's, of what a search thought of cells with what they really score: of all, or of those that it tried."""
    from nasdistill.truth.nas_bench_201 import rank_correlations, rank_correlations_of

    if found.strengths:
        (edges,) = found.strengths.values()
        correlations = rank_correlations_of(edges)
    else:
        trials = [trial for trial in found.trials.get("trials", []) if trial["score"] is not None]
        if len(trials) < 2:
            return None
        correlations = rank_correlations([(_model(space.model(each["chosen"])), each["score"]) for each in trials])
    return {name: value for name, value in correlations.items() if math.isfinite(value)} or None
