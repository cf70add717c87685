"""A few digits, and artifacts of networks, for the tests of stages."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nasdistill import interrupts
from nasdistill.artifacts import Artifact, publish
from nasdistill.data.base import Data, ImageSet
from nasdistill.data.preparation import load
from nasdistill.models.base import WEIGHTS, NetworkSpec, save_network
from nasdistill.registry import registry
from nasdistill.stages import Context
from nasdistill.training.batches import Batch
from nasdistill.training.engine import EngineSettings
from nasdistill.training.records import Records
from nasdistill.training.tasks import Task

SEED = 3


def few_digits() -> Data:
    """96 images to train on, 60 to select on and 80 to test on."""
    whole: Data = load(registry("datasets").parse("digits"), 0)
    first = {"train": 96, "validation": 60, "test": 80}
    parts = {name: getattr(whole, name).subset(torch.arange(count)) for name, count in first.items()}
    assert all(isinstance(part, ImageSet) for part in parts.values())
    return dataclasses.replace(whole, **parts)


def context_in(folder: Path, data: Data, **options: Any) -> Context:
    payload = folder / "payload"
    payload.mkdir(parents=True, exist_ok=True)
    settings = EngineSettings(accelerator="cpu", precision="32")
    places = {"folder": payload, "scratch": folder / "work", "records": Records(folder / "tensorboard", "stage")}
    dataset = registry("datasets").parse("digits")
    made = Context(stage="stage", seed=SEED, dataset=dataset, engine_settings=settings, **places, **options)
    made.shared.split = SEED, data
    return made


def network_artifact(
    place: Path, data: Data, model: str | dict[str, Any], trained: bool = True, **changes: Any
) -> Artifact:
    """A network with weights drawn from a fixed seed, or its architecture alone."""
    fields = {"shape": data.shape, "classes": len(data.classes), "normalisation": data.normalisation, **changes}
    spec = NetworkSpec(model=registry("models").parse(model), **fields)
    torch.manual_seed(11)
    prepared = place.with_name(place.name + "-prepared")
    prepared.mkdir(parents=True)
    save_network(prepared, spec, spec.build() if trained else None)
    kind = "network" if trained else "architecture"
    empty: dict[str, Any] = {"config": {}, "inputs": {}, "metrics": {}, "cost": {}, "provenance": {}}
    return publish(prepared, place, kind=kind, stage="given", uses="train", key="0", seed=0, **empty)


def turn_head(artifact: Artifact) -> None:
    """Reverse the outputs of an artifact's network by hand."""
    state = load_file(artifact.folder / WEIGHTS)
    turned = {name: state[name].flip(0).contiguous() for name in ("classifier.weight", "classifier.bias")}
    save_file({**state, **turned}, artifact.folder / WEIGHTS)


def stop_in(monkeypatch: pytest.MonkeyPatch, task: type[Task], step: int) -> Counter[str]:
    """Ask for a stop in one step of a task, counted from 1, once; returns what counts `steps`, over all runs."""
    forward, taken = task.forward, Counter[str]()

    def counted(self: Task, batch: Batch) -> dict[str, torch.Tensor]:
        taken["steps"] += 1
        monkeypatch.setattr(interrupts, "_requested", 2 if taken["steps"] == step else None)
        return forward(self, batch)

    monkeypatch.setattr(task, "forward", counted)
    return taken


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Those of the network in a payload or an artifact."""
    return load_file(folder / WEIGHTS)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def watch(monkeypatch: pytest.MonkeyPatch, task: type[Task]) -> list[Batch]:
    """What a task is trained on from now on."""
    forward, seen = task.forward, []

    def watched(self: Task, batch: Batch) -> dict[str, torch.Tensor]:
        seen.append(batch)
        return forward(self, batch)

    monkeypatch.setattr(task, "forward", watched)
    return seen
