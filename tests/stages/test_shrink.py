"""The stage `shrink` on a few digits: what it writes, what comes after it, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.artifacts import Artifact
from nasdistill.data.base import Data
from nasdistill.data.loaders import evaluation_batches
from nasdistill.errors import SpecError
from nasdistill.models.base import NetworkSpec, load_network
from nasdistill.models.inspection import count_parameters, multiply_adds
from nasdistill.models.onnx_costs import exported_costs
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES, Outcome
from nasdistill.storage import read_json
from nasdistill.training.metrics import evaluate
from tests.stages.parts import context_in, network_artifact, weights


def stage(**options: Any) -> Any:
    return build(STAGES.get("shrink"), {"network": "given", "images": 64, **options})


def shrink(folder: Path, data: Data, artifact: Artifact, **options: Any) -> Outcome:
    found: Outcome = stage(**options).run({"network": artifact}, context_in(folder, data))
    return found


@pytest.mark.parametrize(
    ("options", "measured", "share"),
    [
        ({"ratio": 0.6}, "parameters", 0.6),
        ({"ratio": 0.7, "measure": "flops", "widths": "alike", "method": "l1"}, "multiply_adds", 0.7),
        ({"budget": "30k", "rounds": 2}, "parameters", 30_000 / 77_562),
        ({"budget": {"multiply_adds": "300k", "parameters": "60k"}, "method": "random"}, "multiply_adds", None),
    ],
)
def test_a_trained_network_of_the_size_that_was_asked_for(
    options: dict[str, Any], measured: str, share: float | None, tmp_path: Path, data: Data, given: Artifact
) -> None:
    metrics = shrink(tmp_path, data, given, **options).metrics
    spec, network = load_network(tmp_path / "payload")
    whole = load_network(given.folder)[1]
    assert metrics["parameters"] == count_parameters(network)
    assert metrics["multiply_adds"] == multiply_adds(network, spec.shape)
    before = {"parameters": count_parameters(whole), "multiply_adds": multiply_adds(whole, spec.shape)}
    most = share * before[measured] if share else 300_000
    assert 0.98 * most <= metrics[measured] <= most
    assert spec.normalisation == data.normalisation

    context = context_in(tmp_path / "again", data)
    for part, found in (("test", metrics["accuracy"]["selected"]), ("validation", metrics["validation"]["score"])):
        batches = evaluation_batches(getattr(data, part), data, context.engine)
        assert evaluate(network, batches, context.engine).accuracy == found
    told = read_json(tmp_path / "payload/shrinking.json")
    assert len(told["steps"]) == options.get("rounds", 1)
    assert told["widths"]["after"] == told["steps"][-1]["widths"]
    assert all(0 < after <= width for width, after in zip(*told["widths"].values(), strict=True))


def test_the_file_that_is_exported_keeps_a_budget_of_bytes(tmp_path: Path, data: Data, given: Artifact) -> None:
    shrink(tmp_path, data, given, budget={"bytes": "100kB"}, method="l1")
    assert 97_000 <= exported_costs(load_network(tmp_path / "payload")[0])[0] <= 100_000


def test_norms_keep_their_statistics_or_have_new_ones(tmp_path: Path, data: Data, given: Artifact) -> None:
    for how in ("kept", "estimated"):
        shrink(tmp_path / how, data, given, statistics=how)
    kept, estimated = (weights(tmp_path / how / "payload") for how in ("kept", "estimated"))
    assert torch.equal(kept["groups.0.0.norm2.weight"], estimated["groups.0.0.norm2.weight"])
    assert torch.equal(kept["norm.running_mean"], torch.zeros(len(kept["norm.running_mean"])))  # as it was drawn
    assert not torch.equal(kept["norm.running_mean"], estimated["norm.running_mean"])


def test_a_student_begins_with_what_is_left(tmp_path: Path, data: Data, given: Artifact) -> None:
    """One step of no length, from the network that was shrunk."""
    outcome = shrink(tmp_path / "shrunk", data, given)
    assert outcome.network is not None
    assert outcome.network.trained
    options = {"student": "given", "teacher": "given", "epochs": 1, "optimizer": {"name": "sgd", "lr": 1e-30}}
    distil = build(STAGES.get("distill"), {**options, "teacher": "whole", "show": [], "batch_size": 48})
    context = context_in(tmp_path / "distilled", data, networks={"student": outcome.network})
    distil.run({"teacher": given}, context)
    before, after = (weights(tmp_path / name / "payload") for name in ("shrunk", "distilled"))
    learned = {name for name in before if "running" not in name and "tracked" not in name}
    for name in learned:
        torch.testing.assert_close(after[name], before[name])


@pytest.mark.parametrize(
    "model",
    [
        "mlp-48-32",
        {"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 3},
        pytest.param("torchvision:mobilenet_v3_small", marks=pytest.mark.slow),
        pytest.param("torchvision:resnet18", marks=pytest.mark.slow),
    ],
)
def test_any_network_shrinks_and_grows_again(model: Any, tmp_path: Path, data: Data) -> None:
    artifact = network_artifact(tmp_path / "given", data, model)
    shrunk = shrink(tmp_path / "shrunk", data, artifact).network
    assert shrunk is not None
    grow = build(STAGES.get("grow-teacher"), {"student": "given", "method": "uniform", "ratio": 1.5, "warm": True})
    grow.run({}, context_in(tmp_path / "grown", data, networks={"student": shrunk}))
    spec, grown = load_network(tmp_path / "grown/payload")
    assert count_parameters(grown) / count_parameters(shrunk.module) == pytest.approx(1.5, rel=0.02)
    images = torch.randn(20, *spec.shape)
    with torch.no_grad():
        ours, theirs = grown(images), shrunk.module.eval()(images)
    assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()


def test_a_ratio_between_two_sizes_is_told(tmp_path: Path, data: Data, caplog: pytest.LogCaptureFixture) -> None:
    artifact = network_artifact(tmp_path / "given", data, "mlp-8")
    outcome = shrink(tmp_path / "shrunk", data, artifact, ratio=0.6)
    assert outcome.metrics["ratio"] == pytest.approx(0.508, abs=5e-4)
    assert (
        "the network is 0.508 of its size: single channels weigh too much for it to come closer to 0.6" in caplog.text
    )


@pytest.mark.parametrize(
    ("options", "path", "sentence"),
    [
        ({"ratio": 1.0}, ("ratio",), "less than 1"),
        ({"method": "fischer"}, ("method",), "did you mean 'fisher'"),
        ({"budget": "30k", "ratio": 0.4}, ("ratio",), "a budget takes the place of a ratio; give one of the two"),
        (
            {"budget": {"latency_ms": 2}},
            ("budget", "latency_ms"),
            "it must be counted while channels leave: limit parameters, multiply_adds, bytes, peak_activation",
        ),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], path: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence) as caught:
        stage(**options)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("model", "options", "path", "sentence"),
    [
        (
            "wrn-10-1",
            {"ratio": 0.001},
            ("ratio",),
            r"with 10% of the channels of each group left \(`least`\) the network is",
        ),
        ("wrn-10-1", {"budget": 500}, ("budget",), r"is 2.34 times as large as the budget allows"),
        ({"name": "wrn-10-1", "binary": "xnor"}, {}, ("network",), "a binary network cannot shrink"),
        (
            {"name": "mlp", "hidden": []},
            {},
            ("network",),
            "no channels of 'mlp' can leave; those of 'classifier' stay, because they are the network's outputs",
        ),
    ],
)
def test_what_cannot_work_is_told_before_anything_runs(
    model: Any, options: dict[str, Any], path: tuple[str, ...], sentence: str, tmp_path: Path, data: Data
) -> None:
    spec = NetworkSpec(model=registry("models").parse(model), shape=data.shape, classes=10)
    with pytest.raises(SpecError, match=sentence) as caught:
        stage(**options).foresee({"network": spec}, context_in(tmp_path, data))
    assert caught.value.path == path
