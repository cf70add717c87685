"""What decides an artifact's content (its key), and what is written down about how it came to be."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import metadata
from typing import Any

import nasdistill
from nasdistill.artifacts import Artifact
from nasdistill.component import Component, classes_in
from nasdistill.depthwise.processor import processor
from nasdistill.errors import SpecError
from nasdistill.models.base import SPEC, Model, load_spec
from nasdistill.readings import reading
from nasdistill.recipes.loading import Recipe
from nasdistill.registry import registry
from nasdistill.stages import Stage
from nasdistill.stages.base import Place, in_words, path_of, references, references_in
from nasdistill.storage import sha256_of_json
from nasdistill.training.engine import EngineSettings, processes_of, resolve
from nasdistill.versions import version

GIT_SECONDS = 10.0

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "numpy", "safetensors", "pydantic")
KEYS = 1
"""To be raised where something else than code changes what an artifact with the same key would hold."""


def classes_of(stage: Stage, inputs: Mapping[Place, str | Artifact]) -> Iterator[type[Component]]:
    """The components whose code decides what a stage makes: its config's, named ones too, and its inputs' models.

    Args:
        inputs: config field to the artifact that it reads, or to the identity of one that is yet to be made.

    Raises:
        UserError: a model in an artifact is unknown.
    """
    yield from classes_in(stage)
    yield from classes_in(list(_models_of(stage, inputs).values()))
    for field, reference, _value in references_in(stage):
        found = inputs.get(field)
        if isinstance(found, Artifact) and not reference.condition and SPEC in found.manifest.files:
            yield from classes_in(load_spec(found.folder))


def _models_of(stage: Stage, inputs: Mapping[Place, str | Artifact]) -> dict[Place, Model]:
    """The models that a stage's config names in place of artifacts."""
    models = registry("models")
    return {
        field: models.parse(value)
        for field, reference, value in references_in(stage)
        if field not in inputs and reference.or_model and (isinstance(value, Mapping) or models.recognises(value))
    }


def engine_of(recipe: Recipe) -> dict[str, Any]:
    """What of the engine decides results, as it is on this machine.

    How many processes share the work does where each has batch norms of its own, and only there.
    """
    settings = recipe.settings.engine
    try:
        accelerator, precision = resolve(settings)
    except SpecError as error:
        raise recipe.source.error(("engine", *error.path), error.problem) from None
    found = settings.model_dump(mode="json", exclude={"devices"})
    found |= {"accelerator": accelerator, "precision": precision, "sync_batch_norm": True}
    processes = processes_of(settings)
    if not settings.sync_batch_norm and processes > 1:
        found |= {"sync_batch_norm": False, "processes": processes}
    return found


def key_of(
    stage: Stage,
    inputs: Mapping[Place, str | Artifact],
    data: Mapping[str, Any] | None,
    engine: Mapping[str, Any],
    seed: int,
) -> str:
    """SHA-256 of everything that decides what a stage writes.

    Args:
        inputs: config field to the artifact that it reads, of which the content counts, under whatever name, or to the
            identity of one that is yet to be made; what decides only whether the stage runs is left out of account.
        data: the data set's options, the fingerprint of its bytes and the version of its code, or None for a stage
            that reads none.
        engine: accelerator, precision and the like, resolved.
    """
    conditions = {name for name, reference in references(type(stage)).items() if reference.condition}
    models = _models_of(stage, inputs)
    contents = {field: model.pretrained_content() for field, model in models.items()}
    read = {path_of(field)[0] for field in (*inputs, *(field for field, content in contents.items() if content))}
    config = {name: value for name, value in stage.model_dump(mode="json").items() if name not in read | conditions}
    deciding = {
        in_words(field): found.content if isinstance(found, Artifact) else found
        for field, found in inputs.items()
        if path_of(field)[0] not in conditions
    }
    deciding |= {
        in_words(field): sha256_of_json([model.spec(), contents[field]])
        for field, model in models.items()
        if path_of(field)[0] in read
    }
    return sha256_of_json(
        {
            "format": KEYS,
            "uses": stage.registered_name,
            "config": config,
            "inputs": deciding,
            "data": data,
            "engine": dict(engine),
            "seed": seed,
            "code": version(classes_of(stage, inputs)),
        }
    )


@functools.cache
def versions(*more: str) -> dict[str, str]:
    """Versions of the interpreter and of the packages that compute, and of `more` packages."""
    found = {name: reading(f"the version of {name}", partial(metadata.version, name)) for name in (*_PACKAGES, *more)}
    packages = {name: version or "unknown" for name, version in found.items()}
    return {"nasdistill": nasdistill.__version__, "python": platform.python_version(), **packages}


@functools.cache
def git_commit() -> str | None:
    """The commit of the folder that the user works in, or None where there is no repository."""
    git = shutil.which("git")
    if git is None:
        return None
    asked = [git, "rev-parse", "HEAD"]
    found = reading("the git commit", lambda: subprocess.run(asked, capture_output=True, timeout=GIT_SECONDS))  # noqa: S603
    return found.stdout.decode("ascii", "replace").strip() or None if found else None


def device_in_words(settings: EngineSettings) -> str:
    """The machine and the precision that a run computes on and in."""
    accelerator, precision = resolve(settings)
    if accelerator == "cuda":
        import torch

        where = reading("the name of the GPU", torch.cuda.get_device_name) or accelerator
    else:
        model = processor("model name") or platform.processor() or platform.machine()
        where = f"{accelerator}, {model}, {os.cpu_count()} cores"
    return f"{where}, {'bf16 mixed' if precision == 'bf16' else 'fp32'}"
