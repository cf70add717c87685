"""The front door for notebooks and other programs: `import nasdistill.api as nd`.

Each function runs the stage of the command line that it is named after, on networks and data in memory, and hands back
what came of it. Options are those of the stage, by keyword; an unknown one is an error that names the nearest.
Networks are given as results of other functions, as folders of artifacts, or as modules of torch; where an architecture
is enough, also as the name or the mapping of a model. What is given is never changed.

With `folder=` checkpoints, curves and the payload stay there, and the same call goes on where a killed one was.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch

from nasdistill.api.calls import Given, run_stage, teachers
from nasdistill.api.options import (
    DistilSettings,
    EvaluateSettings,
    FineTuneSettings,
    GrowSettings,
    SearchSettings,
    Settings,
    ShrinkSettings,
    TrainSettings,
    TransferSettings,
    takes_options,
)
from nasdistill.api.results import Drawing, Metrics, Result, Run, load
from nasdistill.artifacts import publish
from nasdistill.component import classes_in
from nasdistill.data.base import Data, DataSet
from nasdistill.errors import UserError
from nasdistill.models.base import Model, Network, NetworkSpec, save_network
from nasdistill.registry import registry
from nasdistill.stages.training import HISTORY
from nasdistill.storage import sha256_of_json, write_json
from nasdistill.versions import origins

__all__ = [
    "Data",
    "Drawing",
    "Given",
    "Metrics",
    "Network",
    "Result",
    "Run",
    "build",
    "distil",
    "draw",
    "evaluate",
    "export",
    "fine_tune",
    "grow",
    "load",
    "load_data",
    "run",
    "save",
    "search",
    "shrink",
    "train",
    "transfer",
]


def load_data(name: str | DataSet, seed: int = 0, **options: Any) -> Data:
    """A data set, read, split with `seed` and normalised.

    Args:
        name: such as `cifar10`, or a data set of your own.
        options: of the data set, e.g. `root`, `augmentations`, `limit`.
    """
    from nasdistill.data.preparation import load as read

    parsed = name if isinstance(name, DataSet) else registry("datasets").parse({"name": name, **options})
    return read(parsed, seed)


def build(model: str | Mapping[str, Any] | Model, data: Data, seed: int | None = None) -> Network:
    """A model's network for the images and classes of `data`, with the weights that training draws by the same seed."""
    spec = NetworkSpec.for_data(model, data)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(data.seed if seed is None else seed)
        pretrained = spec.model.pretrained_content() is not None
        return Network(spec.drawn(), spec.build(), trained=pretrained)


def save(network: Network, folder: str | Path) -> Path:
    """Write a network as an artifact that recipes, commands and `load` read.

    Raises:
        UserError: there is something in the folder, or no registered model builds such a network.
    """
    place, model = Path(folder), network.spec.model
    if place.exists():
        raise UserError(f"{place} exists; name a folder that does not exist yet")
    name = model.registered_name
    if name not in registry("models").names() or registry("models").get(name) is not type(model):
        raise UserError(f"no model is registered that builds {name}: register one, or keep it with torch.save")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as above:
        prepared = Path(above) / "payload"
        save_network(prepared, network.spec, network.module if network.trained else None)
        if isinstance(network, Result) and network.history:
            write_json(prepared / HISTORY, {"curves": network.history})
        publish(
            prepared,
            place,
            kind="network" if network.trained else "architecture",
            stage="save",
            uses="save",
            key=sha256_of_json(network.content),
            config=network.spec.model_dump(mode="json"),
            inputs={},
            seed=0,
            metrics=dict(network.metrics) if isinstance(network, Result) else {},
            cost={},
            provenance={"plugins": origins(classes_in(network.spec))},
        )
    return place


@takes_options(SearchSettings)
def search(space: Any, data: Data, options: SearchSettings) -> Result:
    """Search an architecture in a space, e.g. `darts-tiny`, for the images of `data`."""
    return cast(Result, run_stage("search", {}, data, options, space=space))


@takes_options(TrainSettings)
def train(network: Given, data: Data, options: TrainSettings) -> Result:
    """Train a network on the labels of `data`; one that is trained goes on from its weights unless `fresh`."""
    return cast(Result, run_stage("train", {"model": network}, data, options))


@takes_options(FineTuneSettings)
def fine_tune(network: Given, data: Data, options: FineTuneSettings) -> Result:
    """Train a pretrained or adapted network on the labels of `data`: its head first, then all of it."""
    return cast(Result, run_stage("fine-tune", {"model": network}, data, options))


@takes_options(GrowSettings)
def grow(student: Given, data: Data, options: GrowSettings) -> Result:
    """Grow a student's architecture into its teacher's, which is not trained, or begins with its weights if `warm`."""
    return cast(Result, run_stage("grow-teacher", {"student": student}, data, options))


@takes_options(ShrinkSettings)
def shrink(network: Given, data: Data, options: ShrinkSettings) -> Result:
    """Take the channels out of a trained network that matter least; all others keep their weights."""
    return cast(Result, run_stage("shrink", {"network": network}, data, options))


@takes_options(DistilSettings)
def distil(student: Given, teacher: Given | Sequence[Given], data: Data, options: DistilSettings) -> Result:
    """Train a student on the labels of `data` and on the outputs of one teacher or several.

    Objectives are names, mappings, objects, or functions of (student's logits, teacher's logits, labels); a function
    counts beside the labels, with the weight 1.
    """
    return cast(Result, run_stage("distill", {"student": student, **teachers(teacher)}, data, options))


@takes_options(TransferSettings)
def transfer(student: Given, teacher: Given | Sequence[Given], options: TransferSettings) -> Result:
    """Teach a student what a trained network knows, without data, on images that a generator makes up."""
    return cast(Result, run_stage("zero-shot", {"student": student, **teachers(teacher)}, options.data, options))


@takes_options(EvaluateSettings)
def evaluate(network: Given, data: Data, options: EvaluateSettings) -> Metrics:
    """Score a trained network on the test images of `data`, or another part of them; also its size and latency."""
    return cast(Metrics, run_stage("evaluate", {"network": network}, data, options))


def export(network: Given, folder: str | Path, format: Any = "onnx", data: Data | None = None) -> Metrics:
    """Write a trained network for other programs into `folder`/payload, with a model card.

    Args:
        format: `onnx`, `onnx-int8`, `torch`, `openvino`, `executorch`, `packed`, or a list of them.
        data: what the files are scored and calibrated with.

    Returns:
        size, and by format under `exports` the file, how far its outputs lie from the network's, and what it scores.
    """
    options = Settings(folder=Path(folder))
    return cast(Metrics, run_stage("export", {"network": network}, data, options, format=format))


def run(
    recipe: str | Path | Mapping[str, Any], *overrides: str, out: str | Path | None = None, trust: bool = False
) -> Run:
    """Run the stages of a recipe that are not done yet, as `nasdistill run` does.

    Args:
        recipe: a file, the name of a built-in one, YAML text, or its content as plain data.
        overrides: any of its values, e.g. `stages.teacher.epochs=20`.
        out: folder of the run; runs/<name> if left out.
        trust: run the plug-ins that a recipe's file names; those of text or plain data run, as the program passes them.
    """
    from nasdistill.recipes import runner
    from nasdistill.recipes.loading import load_recipe
    from nasdistill.recipes.source import Source, parse
    from nasdistill.recipes.trust import refuse, run_all

    text: str | Source = str(recipe)
    if isinstance(recipe, Mapping):
        text = Source("the recipe", json.loads(json.dumps(recipe, default=os.fspath)))
    elif "\n" in str(recipe):
        text = parse(str(recipe), "the recipe")
    loaded = load_recipe(text, overrides, trust=run_all if trust else refuse)
    if loaded.settings.engine.devices > 1:
        raise UserError("several devices are started by the command line: `nasdistill run RECIPE --devices 2`")
    folder = Path("runs") / loaded.settings.name if out is None else Path(out)
    return Run(runner.run(loaded, folder, "nasdistill.api.run"), folder)


def draw(network: Result, what: Literal["cells", "curves"] | None = None) -> Drawing:
    """A network's cells, or the curves of its training; if left out, the curves of one that is trained."""
    from nasdistill.report.plots import lines
    from nasdistill.report.sections.curves import panels
    from nasdistill.search.drawing import draw_graph

    if (what or ("curves" if network.trained and network.history else "cells")) == "curves":
        drawn = [lines(series, title, "") for title, series in panels([network.history]).items()]
    else:
        genotype = network.genotype
        drawn = [] if genotype is None else [draw_graph(graph) for graph in genotype.graphs()]
    if not drawn:
        raise UserError(f"there is nothing to draw of {network!r}: it has no cells, and no curves")
    return Drawing(tuple(drawn))
