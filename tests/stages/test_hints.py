"""The stage `hints` on a few digits: what it writes, what it leaves alone, and that a kill changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nasdistill.artifacts import Artifact, publish
from nasdistill.data.base import Data
from nasdistill.errors import Interrupted, SpecError
from nasdistill.models.base import WEIGHTS, load_network
from nasdistill.registry import build
from nasdistill.stages import STAGES
from nasdistill.storage import read_json
from tests.stages.parts import SEED, context_in, network_artifact, stop_in

STUDENT = "wrn-10-1"


@pytest.fixture
def teacher(tmp_path: Path, data: Data) -> Artifact:
    return network_artifact(tmp_path / "teacher", data, "wrn-16-1")


def run(folder: Path, data: Data, inputs: dict[str, Artifact], **options: Any) -> tuple[dict[str, Any], Path]:
    given = {"student": STUDENT, "teacher": "teacher", "epochs": 2, "batch_size": 32, "augment": False, **options}
    context = context_in(folder, data)
    return build(STAGES.get("hints"), given).run(inputs, context).metrics, context.folder


def test_the_lower_half_is_trained_and_the_upper_half_is_as_drawn(
    tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    metrics, folder = run(tmp_path, data, {"teacher": teacher}, epochs=3)
    spec, _network = load_network(folder)
    torch.manual_seed(SEED)
    drawn, written = spec.build().state_dict(), load_file(folder / WEIGHTS)
    assert set(written) == set(drawn)  # and nothing of the regressor
    moved = {name for name, value in written.items() if not torch.equal(value, drawn[name])}
    assert moved == {name for name in drawn if name.startswith(("stem.", "groups.0.", "groups.1."))}
    curves = read_json(folder / "history.json")["curves"]
    assert "accuracy" not in metrics
    assert not any("accuracy" in name for name in curves)
    assert curves["train/hints"][-1][1] < curves["train/hints"][0][1]
    assert metrics["hint_loss"] == min(value for _, value in curves["validation/loss"])
    teacher.verify()


def test_a_pair_of_module_paths_may_be_given(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    _, folder = run(tmp_path, data, {"teacher": teacher}, pair=["groups.0.0", "groups.1"], epochs=1)
    spec, _network = load_network(folder)
    torch.manual_seed(SEED)
    drawn, written = spec.build().state_dict(), load_file(folder / WEIGHTS)
    moved = {name for name, value in written.items() if not torch.equal(value, drawn[name])}
    assert moved == {name for name in drawn if name.startswith(("stem.", "groups.0."))}


def test_distillation_goes_on_with_its_student(tmp_path: Path, data: Data, teacher: Artifact) -> None:
    _, folder = run(tmp_path / "hints", data, {"teacher": teacher})
    weights = load_file(folder / WEIGHTS)
    empty: dict[str, Any] = {"config": {}, "inputs": {}, "metrics": {}, "cost": {}, "provenance": {}}
    kind = STAGES.get("hints").makes
    hinted = publish(folder, tmp_path / "hinted", kind=kind, stage="hints", uses="hints", key="0", seed=0, **empty)
    still = {"name": "sgd", "lr": 1e-9, "weight_decay": 0}
    options = {"student": "hints", "teacher": "teacher", "epochs": 1, "batch_size": 48, "optimizer": still}
    context = context_in(tmp_path / "distil", data)
    build(STAGES.get("distill"), options).run({"teacher": teacher, "student": hinted}, context)
    after = load_file(context.folder / WEIGHTS)
    for name, value in weights.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)


def test_a_stopped_run_ends_with_the_bits_of_an_unbroken_one(
    tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasdistill.distill.hinting import HintTraining

    whole_metrics, folder = run(tmp_path / "whole", data, {"teacher": teacher})
    whole = load_file(folder / WEIGHTS)
    taken = stop_in(monkeypatch, HintTraining, 4)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", data, {"teacher": teacher})
    torch.rand(7)  # what another process drew before must not matter
    metrics, folder = run(tmp_path / "broken", data, {"teacher": teacher})
    resumed = load_file(folder / WEIGHTS)
    assert taken["steps"] == 6
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert metrics["hint_loss"] == whole_metrics["hint_loss"]


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"student": "teacher"}, ("teacher",), "the student is its own teacher 'teacher'"),
        ({"form": "norm"}, ("form",), "'code' or 'paper'"),
        ({"label_smoothing": 0.1}, ("label_smoothing",), "unknown key"),
        ({"pair": ["groups.1"]}, ("pair",), "at least 2 must be given, got ['groups.1']"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], path: tuple[str | int, ...], problem: str) -> None:
    with pytest.raises(SpecError) as error:
        build(STAGES.get("hints"), {"student": STUDENT, "teacher": "teacher", **options})
    assert error.value.path == path
    assert problem in error.value.problem


def test_an_untrained_teacher_is_refused(tmp_path: Path, data: Data) -> None:
    untrained = network_artifact(tmp_path / "untrained", data, "wrn-16-1", trained=False)
    with pytest.raises(SpecError, match="'teacher' has no trained weights"):
        run(tmp_path / "a", data, {"teacher": untrained})


def test_the_adversarial_objective_ends_a_training_with_its_reason(
    tmp_path: Path, data: Data, teacher: Artifact
) -> None:
    objective = {"name": "adversarial", "fooling": "non-saturating", "weight": 20, "steps": 100, "stop_below": 0.9}
    options = {"student": STUDENT, "teacher": "teacher", "epochs": 20, "batch_size": 32, "objectives": [objective]}
    context = context_in(tmp_path, data)
    metrics = build(STAGES.get("distill"), options).run({"teacher": teacher}, context).metrics
    assert "right about" in metrics["stopped"]
    accuracy = read_json(context.folder / "history.json")["curves"]["adversarial/discriminator accuracy"]
    assert len(accuracy) < 20
    assert accuracy[-1][1] < 90 <= min(value for _, value in accuracy[:-1] or [[0, 100]])


def test_the_adversarial_objective_resumes_to_the_same_bits(
    tmp_path: Path, data: Data, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The discriminator is trained anew before the checkpoint takes over; in between it has gone on learning."""
    from nasdistill.distill.task import Distillation

    objective = {"name": "adversarial", "form": "alternating", "steps": 50, "stop_below": 0}
    options = {"student": STUDENT, "teacher": "teacher", "epochs": 2, "batch_size": 32, "objectives": [objective]}
    stage = build(STAGES.get("distill"), options)

    def distilled(folder: Path) -> tuple[dict[str, torch.Tensor], Any]:
        context = context_in(folder, data)
        stage.run({"teacher": teacher}, context)
        return load_file(context.folder / WEIGHTS), read_json(context.folder / "history.json")["curves"]

    whole, curves = distilled(tmp_path / "whole")
    assert len(curves["adversarial/discriminator accuracy"]) == 2
    taken = stop_in(monkeypatch, Distillation, 5)
    with pytest.raises(Interrupted):
        distilled(tmp_path / "broken")
    resumed, curves_again = distilled(tmp_path / "broken")
    assert taken["steps"] == 6
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert curves_again == curves
