"""The stage `binarise`, and training and distilling what it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nasdistill.artifacts import Artifact, publish
from nasdistill.data.base import Data
from nasdistill.errors import SpecError
from nasdistill.models.base import WEIGHTS, load_network, load_spec
from nasdistill.models.binary import BinaryLayer
from nasdistill.models.inspection import size_bytes
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES
from tests.stages.parts import context_in, network_artifact


def binarised(folder: Path, data: Data, network: Any, given: Artifact | None = None, **options: Any) -> dict[str, Any]:
    stage = build(STAGES.get("binarise"), {"network": network, **options})
    return stage.run({} if given is None else {"network": given}, context_in(folder, data)).metrics


def test_a_searched_architecture_becomes_binary(tmp_path: Path, data: Data) -> None:
    found = network_artifact(tmp_path / "found", data, "darts-v2-4-3", trained=False)
    metrics = binarised(tmp_path, data, "found", found, form="weights")
    before, after = load_spec(found.folder), load_spec(tmp_path / "payload")
    assert after.model == registry("models").parse({"name": "darts-v2-4-3", "binary": "weights"})
    assert (after.shape, after.classes, after.normalisation) == (before.shape, before.classes, before.normalisation)
    assert metrics["bytes"] == size_bytes(after.build())
    assert metrics["bytes_before"] == size_bytes(before.build()) > metrics["bytes"]


def test_trained_weights_are_left_behind(tmp_path: Path, data: Data) -> None:
    given = network_artifact(tmp_path / "given", data, "mlp-8-8")
    binarised(tmp_path, data, "given", given)
    assert [path.name for path in (tmp_path / "payload").iterdir()] == ["spec.json"]
    assert (given.folder / WEIGHTS).is_file()


def test_a_model_of_two_layers_is_refused(tmp_path: Path, data: Data) -> None:
    with pytest.raises(SpecError, match="nothing to make binary"):
        binarised(tmp_path, data, "mlp-8")


def published(payload: Path, place: Path, kind: str) -> Artifact:
    empty: dict[str, Any] = {"config": {}, "inputs": {}, "metrics": {}, "cost": {}, "provenance": {}}
    return publish(payload, place, kind=kind, stage="given", uses="given", key="0", seed=0, **empty)


def test_a_binary_student_learns_from_a_real_teacher(tmp_path: Path, data: Data) -> None:
    settings: dict[str, Any] = {"epochs": 12, "batch_size": 32, "optimizer": {"name": "adam", "lr": 0.01}}
    binarised(tmp_path / "arch", data, "mlp-32-32-32", form="xnor")
    teaching, learning = context_in(tmp_path / "teaching", data), context_in(tmp_path / "learning", data)
    build(STAGES.get("train"), {"model": "mlp-32", **settings}).run({}, teaching)
    inputs = {
        "student": published(tmp_path / "arch" / "payload", tmp_path / "student", "architecture"),
        "teacher": published(teaching.folder, tmp_path / "teacher", "network"),
    }
    stage = build(STAGES.get("distill"), {"student": "student", "teacher": "teacher", **settings})
    metrics = stage.run(inputs, learning).metrics
    spec, network = load_network(learning.folder)
    assert spec.model.binary == "xnor"
    assert sum(isinstance(part, BinaryLayer) for part in network.modules()) == 2
    assert metrics["bytes"] == size_bytes(network) < sum(value.nbytes for value in network.state_dict().values())
    assert metrics["accuracy"]["selected"] > 50  # chance is 10
