"""The stage `export`: what it takes, what it writes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nasdistill.artifacts import publish
from nasdistill.errors import SpecError
from nasdistill.models.base import NetworkSpec, save_network
from nasdistill.stages.base import STAGES


@pytest.mark.parametrize(
    ("given", "formats"),
    [
        ("onnx", ["onnx"]),
        (["onnx", "torch"], ["onnx", "torch"]),
        ({"name": "onnx", "tolerance": 0.1}, ["onnx"]),
        (None, ["onnx"]),
    ],
)
def test_one_format_or_several(given: Any, formats: list[str]) -> None:
    options = {"network": "student"} if given is None else {"network": "student", "format": given}
    assert [exporter.registered_name for exporter in STAGES.parse({"name": "export", **options}).format] == formats


def test_an_unknown_format_gives_the_nearest() -> None:
    with pytest.raises(SpecError, match="unknown exporter 'onx'; did you mean 'onnx'"):
        STAGES.parse({"name": "export", "network": "student", "format": "onx"})


def test_writes_the_files_and_says_what_they_hold(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = NetworkSpec(model="mlp-8", shape=(1, 4, 4), classes=3)
    save_network(tmp_path / "prepared", spec, spec.build())
    network = publish(
        tmp_path / "prepared",
        tmp_path / "network",
        kind="network",
        config={},
        inputs={},
        seed=0,
        metrics={},
        cost={},
        provenance={},
        **dict.fromkeys(("stage", "uses", "key"), "train"),
    )
    folder = tmp_path / "payload"
    folder.mkdir()
    context: Any = SimpleNamespace(folder=folder, networks={})  # all that exporting needs of its surroundings
    stage = STAGES.parse({"name": "export", "network": "student", "format": ["onnx", "torch"]})
    metrics = stage.run({"network": network}, context).metrics
    assert (metrics["parameters"], metrics["multiply_adds"]) == (16 * 8 + 8 + 8 * 3 + 3, 16 * 8 + 8 * 3)
    assert sorted(path.name for path in folder.iterdir()) == ["network.onnx", "network.pt2"]
    for told in metrics["exports"].values():
        assert told["bytes"] == (folder / told["file"]).stat().st_size
        assert told["difference"] < 1e-5
