"""The stage `train`: what it writes, where it starts, and that neither a stop nor the process's past changes it."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nasdistill.artifacts import Artifact
from nasdistill.data.base import Data, ImageSet, Normalisation
from nasdistill.data.preparation import load
from nasdistill.errors import Interrupted, SpecError
from nasdistill.interrupts import polite_stops
from nasdistill.models.base import Model, Network, NetworkSpec, load_network
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES, Context
from nasdistill.stages.training import advice_on_evaluations
from nasdistill.storage import read_json, sha256_of
from nasdistill.training.settings import TrainingSettings
from nasdistill.training.tasks import Supervised
from tests.stages.parts import SEED, context_in, network_artifact, stop_in

SMALL = {"epochs": 2, "batch_size": 32}
BARELY = {"optimizer": {"name": "sgd", "lr": 1e-12, "weight_decay": 0}, "epochs": 1}


def train(context: Context, model: Any, inputs: dict[str, Artifact] | None = None, **options: Any) -> dict[str, Any]:
    stage = build(STAGES.get("train"), {"model": model, **SMALL, **options})
    return stage.run(inputs or {}, context).metrics


def weights_of(context: Context) -> str:
    return sha256_of(context.folder / "weights.safetensors")


def test_of_several_seeds_one_split_at_a_time_is_in_memory(tmp_path: Path, data: Data) -> None:
    first = context_in(tmp_path, data)
    second = dataclasses.replace(first, seed=first.seed + 1)
    assert first.data is data
    assert second.data is second.data
    assert second.shared is first.shared
    assert first.data is not data  # it was let go


def test_the_artifact_is_a_network_with_its_history_and_confusion(tmp_path: Path, data: Data) -> None:
    context = context_in(tmp_path, data)
    metrics = train(context, "mlp-16", epochs=8)
    spec, network = load_network(context.folder)
    assert (spec.labels, spec.normalisation) == (data.classes, data.normalisation)
    assert metrics["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert metrics["multiply_adds"] == 64 * 16 + 16 * 10
    assert isinstance(data.test, ImageSet)
    mean, std = data.normalisation.mean[0], data.normalisation.std[0]
    with torch.no_grad():
        predicted = network((data.test.images / 255 - mean) / std).argmax(1)
    by_hand = 100 * float((predicted == data.test.labels).double().mean())
    assert metrics["accuracy"]["selected"] == pytest.approx(by_hand)
    assert by_hand > 30  # chance is 10
    confusion = read_json(context.folder / "confusion.json")
    assert confusion["labels"] == list(data.classes)
    assert [sum(row) for row in confusion["matrix"]] == torch.bincount(data.test.labels, minlength=10).tolist()
    history = read_json(context.folder / "history.json")
    assert [epoch for epoch, _ in history["curves"]["validation/accuracy"]] == list(range(1, 9))
    assert metrics["samples_per_second"] > 0
    assert 0 < metrics["evaluation_share"] < 1
    assert metrics["latency_ms"] > 0


def test_evaluations_that_will_take_much_of_the_time_are_told_beforehand() -> None:
    """3000 images are scored in the time in which 1000 teach: in half of it, or in a tenth if after every 9 epochs."""

    def advice(**options: int) -> str | None:
        return advice_on_evaluations(build(TrainingSettings, options), learned=1000, scored=3000)

    told = advice(epochs=20)
    assert told is not None
    assert "3000 images each, take about 50% of" in told
    assert "`evaluate_every: 9` about 10%" in told
    assert "`evaluate_every: 2` about 33%" in (advice(epochs=4) or "")
    assert advice(epochs=3) is None, "two evaluations are left at least"
    assert advice(epochs=20, evaluate_every=3) is None


def test_a_mapping_and_a_shorthand_are_the_same_model(tmp_path: Path, data: Data) -> None:
    contexts = [context_in(tmp_path / name, data) for name in ("shorthand", "mapping")]
    for context, model in zip(contexts, ("mlp-8", {"name": "mlp", "hidden": [8]}), strict=True):
        train(context, model)
    assert weights_of(contexts[0]) == weights_of(contexts[1])


def test_what_the_process_did_before_does_not_matter(tmp_path: Path, data: Data) -> None:
    given = network_artifact(tmp_path / "given", data, "mlp-8")
    contexts = [context_in(tmp_path / name, data) for name in ("one", "other")]
    for number, context in enumerate(contexts):
        torch.manual_seed(number)
        train(context, {"name": "mlp", "hidden": [8], "dropout": 0.5})
        torch.manual_seed(number)
        train(context_in(context.folder.parent / "given", data), "given", {"model": given})
    assert weights_of(contexts[0]) == weights_of(contexts[1])
    folders = [context.folder.parent / "given" / "payload" for context in contexts]
    assert sha256_of(folders[0] / "weights.safetensors") == sha256_of(folders[1] / "weights.safetensors")


@pytest.mark.parametrize("fresh", [False, True])
def test_a_trained_network_goes_on_or_starts_afresh(tmp_path: Path, data: Data, fresh: bool) -> None:
    given = network_artifact(tmp_path / "given", data, "mlp-8")
    context = context_in(tmp_path, data)
    train(context, "given", {"model": given}, fresh=fresh, **BARELY)
    before, after = (load_file(folder / "weights.safetensors") for folder in (given.folder, context.folder))
    same = all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert same is not fresh


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path, data: Data) -> None:
    model = {"name": "mlp", "hidden": [8], "dropout": 0.5}
    unbroken, stopped = (context_in(tmp_path / name, data) for name in ("unbroken", "stopped"))
    train(unbroken, model)
    with polite_stops():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted):
            train(stopped, model)
    assert not (stopped.folder / "weights.safetensors").exists()
    train(stopped, model)
    assert weights_of(stopped) == weights_of(unbroken)


def test_an_architecture_for_other_images_is_refused(tmp_path: Path, data: Data) -> None:
    given = network_artifact(tmp_path / "given", data, "mlp-8", trained=False, shape=(3, 32, 32))
    with pytest.raises(SpecError, match="made for images of 3x32x32 in 10 classes; the data set has 1x8x8 in 10"):
        train(context_in(tmp_path, data), "given", {"model": given})


GROWING = {"grow": {"after": [1, 2], "method": {"name": "random", "ratio": 2.5}}, "epochs": 4, "ema": 0.9}


def test_a_network_that_cannot_read_small_images_is_named_before_training(tmp_path: Path, data: Data) -> None:
    stage = build(STAGES.get("train"), {"model": "mlp-8", **SMALL, "scales": [0.5, 1]})
    with pytest.raises(SpecError, match=r"the model 'mlp' .* fails on images at the scale 0\.5") as caught:
        stage.foresee({}, context_in(tmp_path, data))
    assert caught.value.path == ("scales",)
    with pytest.raises(SpecError, match="3 scales are more than `epochs: 2`"):
        build(STAGES.get("train"), {"model": "wrn-10-1", **SMALL, "scales": [0.5, 0.7, 1]})


@pytest.mark.parametrize(
    ("std", "options", "warned"),
    [(1.02, {}, False), (0.5, {}, True), (0.5, {"fresh": True}, False)],
    ids=["another split", "others", "fresh"],
)
def test_a_network_that_learns_on_in_another_normalisation_is_named(
    tmp_path: Path, data: Data, caplog: pytest.LogCaptureFixture, std: float, options: dict[str, Any], warned: bool
) -> None:
    own = Normalisation(mean=data.normalisation.mean, std=tuple(std * each for each in data.normalisation.std))
    given = network_artifact(tmp_path / "given", data, "mlp-8", normalisation=own)
    train(context_in(tmp_path, data), "given", {"model": given}, **BARELY, **options)
    assert ("the model 'given' was trained on other numbers for the same images" in caplog.text) is warned


def test_texts_are_read_at_no_other_scale(tmp_path: Path) -> None:
    lines = [f"{label} a text of {label} things" for label in ("good", "bad") for _ in range(8)]
    (tmp_path / "texts.txt").write_text("\n".join(lines), "utf-8")
    source = registry("datasets").parse({"name": "texts", "root": tmp_path / "texts.txt", "length": 8})
    stage = build(STAGES.get("train"), {"model": "text-cnn-4-4", **SMALL, "scales": [0.5, 1]})
    with pytest.raises(SpecError, match="texts are numbers of tokens, and between two of them is no third") as caught:
        stage.foresee({}, context_in(tmp_path, load(source, SEED)))
    assert caught.value.path == ("scales",)


def test_a_network_grows_while_it_trains(tmp_path: Path, data: Data) -> None:
    context = context_in(tmp_path, data)
    metrics = train(context, {"name": "mlp", "hidden": [12, 8]}, **GROWING)
    spec, network = load_network(context.folder)
    first = (64 + 1) * 12 + (12 + 1) * 8 + (8 + 1) * 10
    assert metrics["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert metrics["parameters"] / first == pytest.approx(2.5, rel=0.02)
    assert metrics["best_epoch"] > 2
    curves = read_json(context.folder / "history.json")["curves"]
    sizes = [value for _epoch, value in curves["parameters"]]
    assert sizes[0] == first < sizes[1] < sizes[2] == sizes[3] == metrics["parameters"]
    assert metrics["accuracy"]["best"] == max(value for _epoch, value in curves["test/accuracy"][2:])
    growth = read_json(context.folder / "growth.json")
    assert [step["epoch"] for step in growth["steps"]] == [1, 2]
    assert growth["widths"] == {"before": [12, 8], "after": list(spec.model.hidden)}


@pytest.mark.parametrize("step", [2, 3, 4])  # of 3 an epoch
def test_a_growing_training_that_is_stopped_ends_with_the_same_weights(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    model = {"name": "mlp", "hidden": [12, 8], "dropout": 0.5}
    unbroken, stopped = (context_in(tmp_path / name, data) for name in ("unbroken", "stopped"))
    train(unbroken, model, **GROWING)
    taken = stop_in(monkeypatch, Supervised, step)
    for _ in range(2 if step == 3 else 1):  # once more at the epoch's edge, where it has just grown
        with pytest.raises(Interrupted):
            train(stopped, model, **GROWING)
    train(stopped, model, **GROWING)
    assert taken["steps"] == 12
    for name in ("weights.safetensors", "growth.json", "history.json"):
        assert sha256_of(stopped.folder / name) == sha256_of(unbroken.folder / name)


@pytest.mark.parametrize(
    ("options", "path", "sentence"),
    [
        ({"after": [2, 4]}, ("grow", "after"), "the last epoch is number 4, so that nothing is trained after 4"),
        ({"after": [2, 1]}, ("grow", "after"), r"must ascend, got \[2, 1\]"),
        ({"after": []}, ("grow", "after"), "at least 1 must be given"),
        ({"after": [1], "measure": "latency"}, ("grow", "measure"), "no two measurements are alike"),
        ({"after": [1], "method": "depth"}, ("grow", "method"), "'depth' changes layers"),
    ],
)
def test_growth_that_makes_no_sense_is_told(options: dict[str, Any], path: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence) as caught:
        build(STAGES.get("train"), {"model": "mlp-8", "epochs": 4, "grow": options})
    assert caught.value.path == path


def test_an_optimiser_must_tell_how_its_memory_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry("optimizers").get("sgd"), "state_degrees", None)
    with pytest.raises(SpecError, match="'sgd' does not tell how what it remembers grows") as caught:
        build(STAGES.get("train"), {"model": "mlp-8", **GROWING})
    assert caught.value.path == ("optimizer",)


class Odd(Model):
    """Its head is of no use."""

    head: str

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        heads = {
            "other classes": [nn.Flatten(), nn.LazyLinear(classes - 3)],
            "a map": [nn.Conv2d(shape[0], classes, 1)],
            "other images": [nn.Flatten(), nn.Linear(7, classes)],
        }
        return nn.Sequential(*heads[self.head])


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("other classes", r"must return logits \[N, 10\], got \[2, 7\] for images \[2, 1, 8, 8\]"),
        ("a map", r"must return logits \[N, 10\], got \[2, 10, 8, 8\]"),
        ("other images", r"fails on images \[2, 1, 8, 8\]: RuntimeError: mat1 and mat2"),
    ],
)
def test_a_model_without_logits_is_named_before_training(tmp_path: Path, data: Data, head: str, problem: str) -> None:
    spec = NetworkSpec(model=Odd(head=head), shape=data.shape, classes=len(data.classes))
    context = context_in(tmp_path, data, networks={"model": Network(spec, spec.build())})
    with pytest.raises(SpecError, match=rf"'Odd' \(.*test_train\.py, line \d+\) {problem}"):
        build(STAGES.get("train"), {"model": "odd"}).run({}, context)
