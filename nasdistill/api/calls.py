"""How a stage is run on networks and data in memory."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from nasdistill.api.options import Settings
from nasdistill.api.results import Metrics, Result, load, result_of
from nasdistill.artifacts import MANIFEST
from nasdistill.component import caveats_in, idle_options
from nasdistill.data.base import Data, DataSet, RawData, Shape
from nasdistill.data.preparation import facts_of
from nasdistill.errors import UserError
from nasdistill.models.base import Model, Network, NetworkSpec
from nasdistill.registry import registry
from nasdistill.stages.base import STAGES, Context, Place, Shared, in_words
from nasdistill.storage import read_json, sha256_of_json, write_json
from nasdistill.training.engine import DeviceSettings, EngineSettings
from nasdistill.training.records import Records
from nasdistill.validation import build

Given = Network | nn.Module | str | Path | Mapping[str, Any]
"""A network: a result, a module, the folder of an artifact, or a model by name or mapping."""
CALL = "call.json"

log = logging.getLogger(__name__)


class OwnModule(Model):
    """A module of the caller's own, which nobody else can build."""

    reads_texts: ClassVar[bool] = True

    def build(self, shape: Shape, classes: int) -> nn.Module:
        raise UserError("the weights of a module of your own cannot be drawn anew; leave out `fresh`")


def _network(given: Given, field_name: str, data: Data | None) -> Network | str | dict[str, Any]:
    """What was given for a field: a network in memory, or a model as a stage reads it.

    Raises:
        UserError: it is none.
    """
    if isinstance(given, Network):
        return given
    if isinstance(given, nn.Module):
        if data is None:
            raise UserError(f"a module alone does not tell which images the {field_name} reads; give `data` as well")
        return Network(NetworkSpec.for_data(OwnModule(), data), given)
    if isinstance(given, Path) or (isinstance(given, str) and (Path(given) / MANIFEST).is_file()):
        return load(given)
    return dict(given) if isinstance(given, Mapping) else given


def teachers(teacher: Given | Sequence[Given]) -> dict[Place, Given]:
    if isinstance(teacher, Sequence) and not isinstance(teacher, str | nn.Module):
        return {("teacher", number): each for number, each in enumerate(teacher)}
    return {"teacher": teacher}


def run_stage(
    uses: str, given: Mapping[Place, Given], data: Data | None, options: Settings, **more: Any
) -> Result | Metrics:
    """Run a stage on networks in memory, in the caller's folder or one that is gone afterwards.

    Args:
        given: the networks that it reads.
        more: other fields of the stage, beside those that the options set.
    """
    found = {place: _network(each, in_words(place), data) for place, each in given.items()}
    networks = {place: each for place, each in found.items() if isinstance(each, Network)}
    kind = STAGES.get(uses)
    chosen = {name: getattr(options, name) for name in options.model_fields_set if name in kind.model_fields}
    stage = build(kind, {**_values(found), **chosen, **more})
    dataset = DataSet(augmentations=list(data.augmentations)) if data else registry("datasets").parse("none")
    stage.check_data(dataset)
    for warning in (*caveats_in(stage), *(idle_options(stage, facts_of(data)) if data else ())):
        log.warning("%s", warning)
    seed = options.seed if options.seed is not None else data.seed if data else 0
    shared = Shared()
    if data:
        shared = Shared(RawData(data.train, data.test, data.classes, data.validation, data.words), (seed, data))
    identity = _identity(data) if data else {}
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nasdistill-")))
        if options.folder is not None:
            contents = {in_words(place): network.content for place, network in networks.items()}
            _claim(folder, {"stage": stage.spec(), "seed": seed, "networks": contents, "data": identity})
        payload = folder / "payload"
        payload.mkdir(parents=True, exist_ok=True)
        context = Context(
            stage=uses,
            folder=payload,
            scratch=folder,
            records=Records(options.folder and folder / "tensorboard", uses, options.quiet),
            seed=seed,
            replicate=stage.replicate_number(),
            dataset=dataset,
            engine_settings=EngineSettings(**{name: getattr(options, name) for name in DeviceSettings.model_fields}),
            checkpoint_seconds=30.0 if options.folder else math.inf,
            data_identity=identity,
            shared=shared,
            networks=networks,
        )
        # What the caller draws afterwards does not depend on what was drawn here.
        stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        stack.callback(context.records.close)
        outcome = stage.run({}, context)
        if outcome.network is None:
            return Metrics(outcome.metrics)
        return result_of(outcome.network, outcome.metrics, payload)


def _values(found: Mapping[Place, Network | str | dict[str, Any]]) -> dict[str, Any]:
    """What stands in the stage's fields: of a network in memory a name for messages, the same for the same one."""
    names: dict[int, str] = {}
    values: dict[str, Any] = {}
    for place, each in found.items():
        value: Any = each
        if isinstance(each, Network):
            value = names.setdefault(id(each.module), f"{type(each.module).__name__} ({in_words(place)})")
        if isinstance(place, str):
            values[place] = value
        else:
            values.setdefault(place[0], []).append(value)
    return values


def _identity(data: Data) -> dict[str, Any]:
    """What identifies data; of the images their number, shape, labels and mean."""
    labels = hashlib.sha256(data.train.labels.numpy().tobytes()).hexdigest()
    augmentations = [each.spec() for each in data.augmentations]
    normalisation = data.normalisation.model_dump(mode="json")
    words = sha256_of_json(data.words.tokens) if data.words else None
    return {
        "images": repr(data),
        "words": words,
        "labels": labels,
        "normalisation": normalisation,
        "augmentations": augmentations,
    }


def _claim(folder: Path, call: Mapping[str, Any]) -> None:
    """Take a folder for a call, or take it up again where it is that of the same call.

    Raises:
        UserError: it holds something else.
    """
    path = folder / CALL
    plain = json.loads(json.dumps(call))
    if path.is_file() and read_json(path) == plain:
        return
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} holds something else than this very call; name another folder")
    write_json(path, plain)
