"""The stage `fine-tune`: who learns when and how fast, that a stop changes nothing, and what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nasdistill.artifacts import Artifact, publish
from nasdistill.data.base import Data
from nasdistill.errors import Interrupted, SpecError
from nasdistill.models.base import MODELS, load_network
from nasdistill.registry import build
from nasdistill.stages import STAGES, Context, Stage
from nasdistill.training.batches import Batch
from nasdistill.training.fine_tuning import FineTuning
from nasdistill.training.optimizers import OPTIMIZERS, scale_rates
from tests.stages.parts import context_in, equal, stop_in, weights

SMALL = {"epochs": 1, "batch_size": 48, "show": []}  # two steps


def fine_tune(context: Context, given: Artifact, **options: Any) -> dict[str, torch.Tensor]:
    build(STAGES.get("fine-tune"), {"model": "given", **SMALL, **options}).run({"model": given}, context)
    return weights(context.folder)


def changed(given: Artifact, found: dict[str, torch.Tensor]) -> set[str]:
    before = weights(given.folder)
    return {name for name, value in found.items() if not torch.equal(value, before[name])}


def test_the_head_learns_first_and_then_all(
    tmp_path: Path, data: Data, given: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning: list[set[str]] = []
    updates: list[int] = []
    forward = FineTuning.forward

    def watched(task: FineTuning, batch: Batch) -> dict[str, torch.Tensor]:
        learning.append({name for name, value in task.network.named_parameters() if value.requires_grad})
        updates.append(int(task.network.get_buffer("norm.num_batches_tracked")))
        return forward(task, batch)

    monkeypatch.setattr(FineTuning, "forward", watched)
    found = fine_tune(context_in(tmp_path, data), given, head_epochs=2)
    everything = {name for name in weights(given.folder) if "running" not in name and "num_batches" not in name}
    assert learning == [{"classifier.weight", "classifier.bias"}] * 4 + [everything] * 2
    assert updates == [0] * 5 + [1]
    assert changed(given, found) == found.keys()


def test_frozen_layers_and_batch_norms_stay(tmp_path: Path, data: Data, given: Artifact) -> None:
    found = fine_tune(context_in(tmp_path, data), given, freeze_to="groups.1", freeze_batch_norm=True, head_epochs=0)
    learned = {name.rpartition(".")[0] for name in changed(given, found)}
    assert "classifier" in learned
    assert all(path == "classifier" or path.startswith("groups.2.0.") for path in learned), learned


def test_a_parameter_moves_by_its_factor_of_the_learning_rate() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = OPTIMIZERS.parse({"name": "adamw", "lr": 0.1}).build([first, second])
    scale_rates(optimizer, {first: 0.25})
    groups = [(group["factor"], group["params"]) for group in optimizer.param_groups]
    assert groups == [(1.0, [second]), (0.25, [first])]
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["factor"]
    (first.sum() + second.sum()).backward()  # type: ignore[no-untyped-call]
    optimizer.step()  # Adam's first step is the learning rate
    torch.testing.assert_close(first.data, torch.full((2,), -0.025))
    torch.testing.assert_close(second.data, torch.full((2,), -0.1))


@pytest.mark.parametrize("step", [1, 3])
def test_a_stopped_training_goes_on_to_the_same_weights(
    tmp_path: Path, data: Data, given: Artifact, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while the head learns, and while all learns."""
    unbroken, stopped = (context_in(tmp_path / name, data) for name in ("unbroken", "stopped"))
    expected = fine_tune(unbroken, given, layer_decay=0.1)
    taken = stop_in(monkeypatch, FineTuning, step)
    with pytest.raises(Interrupted):
        fine_tune(stopped, given, layer_decay=0.1)
    assert equal(fine_tune(stopped, given, layer_decay=0.1), expected)
    assert taken["steps"] == 4 + (step == 3) * 2  # the head's last checkpoint is of its beginning


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_a_pretrained_network_becomes_a_teacher_and_needs_its_file_no_more(tmp_path: Path, data: Data) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(MODELS.parse("timm:test_resnet").build((3, 32, 32), 7).state_dict(), file)
    model = {"name": "timm:test_resnet", "pretrained": str(file), "size": 32}
    context = context_in(tmp_path / "tuned", data)
    stage = build(STAGES.get("fine-tune"), {**SMALL, "model": model})
    foreseen = stage.foresee({}, context)
    stage.run({}, context)
    file.unlink()
    spec, network = load_network(context.folder)
    assert (spec, spec.classes) == (foreseen, 10)
    assert all(parameter.requires_grad for parameter in network.parameters())

    manifest: dict[str, Any] = {"config": {}, "inputs": {}, "metrics": {}, "cost": {}, "provenance": {}}
    place, kind = tmp_path / "as-artifact", {"kind": "network", "stage": "tuned", "uses": "fine-tune"}
    artifact = publish(context.folder, place, **kind, key="0", seed=0, **manifest)
    options = {"student": "wrn-10-1", "teacher": "teacher", **SMALL, "objectives": ["kd", "attention"]}
    taught = context_in(tmp_path / "taught", data)
    build(STAGES.get("distill"), options).run({"teacher": artifact}, taught)
    assert weights(taught.folder)


@pytest.mark.parametrize(
    ("options", "field", "told"),
    [
        ({"model": "wrn-10-1"}, "model", "'wrn-10-1' has no trained weights; its option `pretrained` gives some"),
        ({"freeze_to": "groups.7"}, "freeze_to", r"meets no module 'groups.7'; did you mean 'groups.\d'"),
        ({"freeze_to": "classifier"}, "freeze_to", "nothing is left to learn after 'classifier'"),
    ],
)
def test_what_cannot_work_is_told_beforehand(
    tmp_path: Path, data: Data, given: Artifact, options: dict[str, Any], field: str, told: str
) -> None:
    stage = build(STAGES.get("fine-tune"), {"model": "given", **SMALL, **options})
    specs = {} if "model" in options else {"model": load_network(given.folder)[0]}
    with pytest.raises(SpecError, match=told) as error:
        stage.foresee(specs, context_in(tmp_path, data))
    assert error.value.path == (field,)


def test_it_can_be_left_out_where_no_weights_are_given(given: Artifact) -> None:
    def reason(model: Any, **options: Any) -> str | None:
        stage: Stage = build(STAGES.get("fine-tune"), {"model": model, **options})
        return stage.reason_to_leave_out({"model": given} if model == "given" else {})

    bare = {"name": "torchvision", "architecture": "resnet18"}
    assert reason(bare) is None
    assert reason(bare, without_weights="leave-out") == "no `pretrained` weights are given"
    assert reason(bare | {"pretrained": "weights.pth"}, without_weights="leave-out") is None
    assert reason("given", without_weights="leave-out") is None
