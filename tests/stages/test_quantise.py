"""The stage `quantise`: a network that learned to be rounded, and is a network like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.artifacts import Artifact, publish
from nasdistill.data.base import Data
from nasdistill.data.loaders import evaluation_batches
from nasdistill.distill.task import Distillation
from nasdistill.errors import Interrupted, SpecError
from nasdistill.models.base import load_network, save_network
from nasdistill.models.simulated_int8 import SimulatedInt8
from nasdistill.registry import build
from nasdistill.stages import STAGES, Context
from tests.stages.parts import context_in, equal, network_artifact, stop_in, weights

SMALL = {"student": "given", "teacher": "given", "epochs": 2, "batch_size": 48, "show": []}  # four steps


def quantise(context: Context, given: Artifact, **options: Any) -> dict[str, torch.Tensor]:
    stage = build(STAGES.get("quantise"), {**SMALL, **options})
    stage.run({"student": given, "teacher": given}, context)
    return weights(context.folder)


def test_a_stopped_training_goes_on_to_the_same_weights_of_the_network_alone(
    tmp_path: Path, data: Data, given: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken, stopped = (context_in(tmp_path / name, data) for name in ("unbroken", "stopped"))
    expected = quantise(unbroken, given)
    stop_in(monkeypatch, Distillation, 3)
    with pytest.raises(Interrupted):
        quantise(stopped, given)
    assert equal(quantise(stopped, given), expected)
    before = weights(given.folder)
    assert expected.keys() == before.keys()
    assert not equal(expected, before)
    assert load_network(unbroken.folder)[0].model == load_network(given.folder)[0].model


def test_an_auxiliary_head_stays_as_it_was(tmp_path: Path, data: Data) -> None:
    model = {"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 3, "auxiliary": True, "drop_path": 0.2}
    given = network_artifact(tmp_path / "given", data, model)
    context = context_in(tmp_path / "stage", data)
    found, before = quantise(context, given, epochs=1), weights(given.folder)
    load_network(context.folder)
    heads = [name for name in before if name.startswith("auxiliary.")]
    assert heads
    assert equal({name: found[name] for name in heads}, {name: before[name] for name in heads})
    assert not equal(found, before)


def test_a_network_that_rounding_spoils_learns_to_answer_as_it_did(tmp_path: Path, data: Data) -> None:
    """One whose hidden values differ in size by a factor of up to 1,000: most of them have few levels."""
    trained = context_in(tmp_path / "trained", data)
    build(STAGES.get("train"), {"model": "mlp-32", "epochs": 15, "batch_size": 32, "show": []}).run({}, trained)
    spec, network = load_network(trained.folder)
    first, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    factors = torch.logspace(0, 3, 32)
    for value in (first.weight.T, first.bias):
        value.data.mul_(factors)
    last.weight.data.div_(factors)
    save_network(trained.folder, spec, network)
    of = {"kind": "network", "stage": "trained", "uses": "train", "key": "0", "seed": 0}
    empty: dict[str, Any] = {"config": {}, "inputs": {}, "metrics": {}, "cost": {}, "provenance": {}}
    given = publish(trained.folder, tmp_path / "given", **of, **empty)
    context = context_in(tmp_path / "stage", data)
    quantise(context, given, objectives=[{"name": "kd", "weight": 1}], epochs=20, batch_size=32)
    train, test = (
        torch.cat([batch.images for batch in evaluation_batches(part, data, context.engine).epoch(0)])
        for part in (data.train, data.test)
    )
    with torch.no_grad():
        wanted = network.eval()(test).softmax(1)

    def lost(folder: Path) -> float:
        simulated = SimulatedInt8(load_network(folder)[1], spec.shape).eval()
        simulated.calibrate([train])
        with torch.no_grad():
            return float(functional.kl_div(simulated(test).log_softmax(1), wanted, reduction="batchmean"))

    assert lost(context.folder) < 0.6 * lost(given.folder)


def test_a_student_without_weights_is_refused(tmp_path: Path, data: Data) -> None:
    drawn = network_artifact(tmp_path / "drawn", data, "wrn-10-1", trained=False)
    stage = build(STAGES.get("quantise"), SMALL)
    with pytest.raises(SpecError, match="'given' has no trained weights"):
        stage.run({"student": drawn, "teacher": drawn}, context_in(tmp_path, data))
