"""What decides an artifact's content (its key), and what is written down about how it came to be."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nasdistill
from nasdistill.artifacts import FORMAT
from nasdistill.registry import Component, registry
from nasdistill.stages import Stage
from nasdistill.stages.base import references, references_in
from nasdistill.storage import sha256_of, sha256_of_json
from nasdistill.training.engine import EngineSettings, resolve

# What the rooms of this package compute decides the artifacts; how commands parse and reports look does not.
_NOT_COMPUTING = {"cli", "report"}
_PACKAGES = ("torch", "torchvision", "lightning", "numpy", "safetensors", "pydantic")


@functools.cache
def code_version() -> str:
    """SHA-256 over the source of the rooms that compute."""
    root = Path(nasdistill.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if relative.parts[0] not in _NOT_COMPUTING:
            digest.update(f"{relative} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def components_in(value: Any) -> list[Component]:
    """The components that a config holds, itself included."""
    if isinstance(value, Component):
        inner = [part for name in type(value).model_fields for part in components_in(getattr(value, name))]
        return [value, *inner]
    if isinstance(value, list | tuple):
        return [part for item in value for part in components_in(item)]
    return []


def _models_in(config: Component) -> list[Component]:
    """The models that a stage's config names in place of a stage."""
    models = registry("models")
    return [
        part
        for _field, reference, value in (references_in(config) if isinstance(config, Stage) else ())
        if reference.or_model and (isinstance(value, Mapping) or models.recognises(value))
        for part in components_in(models.parse(value))
    ]


def plugin_versions(*configs: Component) -> dict[str, str]:
    """The plugins whose components these configs use, with their versions or hashes."""
    found = {}
    for component in (part for config in configs for part in [*components_in(config), *_models_in(config)]):
        origin = registry(component.registered_kind).origin(component.registered_name)
        if origin.name != "built-in":
            found[origin.name] = origin.version
    return found


def resolved_config(stage: Stage) -> dict[str, Any]:
    """A stage's options as plain data, defaults included."""
    return stage.model_dump(mode="json")


def key_of(
    stage: Stage, inputs: Mapping[str, str], data: Mapping[str, Any] | None, engine: Mapping[str, Any], seed: int
) -> str:
    """SHA-256 of everything that decides what a stage writes.

    Args:
        inputs: config field to the content hash of the artifact that it reads, under whatever name; what decides only
            whether the stage runs is left out of account.
        data: the data set's options and the fingerprint of its bytes, or None for a stage that reads none.
        engine: accelerator, precision and the like, resolved.
    """
    conditions = {name for name, reference in references(type(stage)).items() if reference.condition}
    read = {field.partition(".")[0] for field in inputs}
    config = {name: value for name, value in resolved_config(stage).items() if name not in read | conditions}
    deciding = {field: content for field, content in inputs.items() if field.partition(".")[0] not in conditions}
    return sha256_of_json(
        {
            "format": FORMAT,
            "uses": stage.registered_name,
            "config": config,
            "inputs": deciding,
            "data": data,
            "engine": dict(engine),
            "seed": seed,
            "code": code_version(),
            "plugins": plugin_versions(stage),
        }
    )


@functools.cache
def versions(*more: str) -> dict[str, str]:
    """Versions of the interpreter and of the packages that compute, and of `more` packages."""
    packages = {name: importlib.metadata.version(name) for name in (*_PACKAGES, *more)}
    return {"nasdistill": nasdistill.__version__, "python": platform.python_version(), **packages}


@functools.cache
def git_commit() -> str | None:
    """The commit of the folder that the user works in, or None where there is no repository."""
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip() or None


def device_in_words(settings: EngineSettings) -> str:
    """The machine and the precision that a run computes on and in."""
    accelerator, precision = resolve(settings)
    if accelerator == "cuda":
        import torch

        where = torch.cuda.get_device_name()
    else:
        where = f"{accelerator}, {_processor()}, {os.cpu_count()} cores"
    return f"{where}, {'bf16 mixed' if precision == 'bf16' else 'fp32'}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
