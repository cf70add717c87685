"""The front door: the same bits as the command line, nothing changed or left behind, and mistakes in a sentence."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional

import nasdistill.api as nd
from nasdistill.cli.main import main
from nasdistill.distill.objectives import Objective, Outputs
from nasdistill.errors import Interrupted, UserError
from nasdistill.growth.stepwise import GrowthRule
from nasdistill.growth.student import Student
from nasdistill.interrupts import stops_are_polite
from nasdistill.training.batches import Batch
from nasdistill.training.tasks import Supervised
from tests.stages.parts import few_digits, stop_in

FAST: dict[str, Any] = {"accelerator": "cpu", "precision": "32", "quiet": True}
CPU = ["--accelerator", "cpu", "--precision", "32"]


@pytest.fixture(scope="module")
def data() -> nd.Data:
    return few_digits()


@pytest.fixture(scope="module")
def teacher(data: nd.Data) -> nd.Result:
    return nd.train("mlp-16", data, epochs=1, **FAST)


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_training_and_distilling_give_the_bits_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--epochs", "1", "--data", "digits", "--seed", "3", *CPU]
    assert main(["train", "--model", "mlp-16", *words]) == 0
    assert main(["distill", "--student", "mlp-8", "--teacher", "runs/train/stages/train", *words]) == 0
    assert main(["fine-tune", "runs/train/stages/train", *words]) == 0
    digits = nd.load_data("digits", seed=3)
    taught_by = nd.train("mlp-16", digits, epochs=1, **FAST)
    assert main(["shrink", "runs/train/stages/train", "--ratio", "0.51", "--data", "digits", "--seed", "3", *CPU]) == 0
    half = nd.shrink(taught_by, digits, ratio=0.51, **FAST)
    assert same(half.module, nd.load("runs/shrink/stages/shrink").module)
    tuned = nd.fine_tune(taught_by, digits, epochs=1, **FAST)
    assert same(tuned.module, nd.load("runs/fine-tune/stages/fine-tune").module)
    torch.manual_seed(99)
    student = nd.distil(nd.build("mlp-8", digits), taught_by, digits, epochs=1, **FAST)
    by_command = nd.load("runs/distill/stages/distill")
    assert same(taught_by.module, nd.load("runs/train/stages/train").module)
    assert same(student.module, by_command.module)
    assert student.accuracy == by_command.accuracy
    assert student.history == by_command.history
    assert torch.initial_seed() == 99


def test_a_search_finds_the_cells_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = "{name: darts-tiny, nodes: 1, search_cells: 3, cells: 3}"
    limited = ["--data", "{name: digits, limit: 200}"]
    assert main(["search", "--space", space, "--epochs", "1", *limited, *CPU]) == 0
    options = {"name": "darts-tiny", "nodes": 1, "search_cells": 3, "cells": 3}
    found = nd.search(options, nd.load_data("digits", limit=200), epochs=1, **FAST)
    by_command = nd.load("runs/search/stages/search")
    assert found.genotype == by_command.genotype
    assert found.spec == by_command.spec
    assert found.history == by_command.history
    assert (found.trained, by_command.trained) == (False, False)
    assert nd.draw(found)._repr_html_().count("<svg") == 2


def test_nothing_stays_and_nothing_given_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: nd.Data, teacher: nd.Result
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    student, before = linear(), linear()
    before.load_state_dict(student.state_dict())
    taught = {name: value.clone() for name, value in teacher.module.state_dict().items()}
    learned = nd.distil(student, [teacher, teacher.module], data, epochs=1, teacher_weights=[2, 1], **FAST)
    assert same(student, before)
    assert all(torch.equal(value, taught[name]) for name, value in teacher.module.state_dict().items())
    assert not same(learned.module, before)
    assert list(tmp_path.iterdir()) == []
    assert not stops_are_polite()


def test_a_folder_keeps_what_a_call_makes_and_is_of_one_call(tmp_path: Path, data: nd.Data) -> None:
    folder = tmp_path / "work"
    first = nd.train("mlp-8", data, epochs=1, folder=folder, **FAST)
    assert {"payload", "tensorboard", "call.json"} <= {path.name for path in folder.iterdir()}
    assert same(nd.train("mlp-8", data, epochs=1, folder=folder, **FAST).module, first.module)
    with pytest.raises(UserError, match="holds something else than this very call"):
        nd.train("mlp-8", data, epochs=2, folder=folder, **FAST)


def test_a_call_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: nd.Data
) -> None:
    options = {"epochs": 2, "batch_size": 32, **FAST}
    unbroken = nd.train("mlp-8", data, **options)
    taken = stop_in(monkeypatch, Supervised, 4)
    with pytest.raises(Interrupted):
        nd.train("mlp-8", data, folder=tmp_path / "work", **options)
    assert same(nd.train("mlp-8", data, folder=tmp_path / "work", **options).module, unbroken.module)
    assert taken["steps"] == 6  # of 96 images in 2 epochs, none twice


def test_a_saved_network_is_read_by_commands_and_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: nd.Data, teacher: nd.Result
) -> None:
    monkeypatch.chdir(tmp_path)
    nd.save(teacher, "saved")
    assert same(nd.load("saved").module, teacher.module)
    assert nd.load("saved").accuracy == teacher.accuracy
    assert main(["evaluate", "saved", "--data", "digits", *CPU]) == 0
    with pytest.raises(UserError, match="exists; name a folder"):
        nd.save(teacher, "saved")
    with pytest.raises(UserError, match="no model is registered that builds"):
        nd.save(nd.train(linear(), data, epochs=1, **FAST), "own")


class Halved(Objective):
    """A loss that is registered nowhere."""

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        return functional.mse_loss(student.logits, teacher.logits) / 2


def whole(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    assert labels.dtype == torch.int64
    return functional.mse_loss(student, teacher)


class Scaled(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(self.scale * student, teacher)


def test_a_loss_is_an_object_a_function_or_a_module(data: nd.Data, teacher: nd.Result) -> None:
    module = Scaled()
    objectives = [Halved(), whole, module]
    history = nd.distil("mlp-8", teacher, data, epochs=1, objectives=objectives, **FAST).history
    curves = {name: history[f"train/{name}"][0][1] for name in ("Halved", "whole", "Scaled", "cross-entropy")}
    assert curves["whole"] == pytest.approx(2 * curves["Halved"], rel=1e-5)
    assert module.scale.item() != 1


class First(GrowthRule):
    """Only the first unit matters."""

    source: ClassVar[str] = "this test"

    def scores(self, student: Student) -> dict[str, float]:
        return {unit.name: float(number == 0) for number, unit in enumerate(student.spec.model.units())}


def test_a_growth_rule_is_an_object(data: nd.Data) -> None:
    grown = nd.grow("darts-v2-4-2", data, method=First(tolerance=0.1, widest=50), ratio=1.3, images=32, **FAST)
    assert grown.steps
    assert len({step["unit"] for step in grown.steps}) == 1
    assert grown.metrics["ratio"] == pytest.approx(1.3, rel=0.1)


def test_without_data_a_student_learns_from_the_teacher_alone(data: nd.Data, teacher: nd.Result) -> None:
    few = {"pseudo_batches": 2, "student_steps": 1, "batch_size": 4, "objectives": ["logits-mse"]}
    student = nd.transfer("mlp-8", teacher, **few, **FAST)
    assert student.accuracy == {}
    assert student.metrics["pseudo_batches"] == 2
    assert set(nd.transfer("mlp-8", teacher, data=data, **few, **FAST).accuracy) == {"last", "best"}


def test_a_recipe_runs_and_gives_its_networks(tmp_path: Path) -> None:
    stages = [{"name": "net", "uses": "train", "with": {"model": "mlp-8", "epochs": 2}}]
    recipe = {"name": "one", "data": {"name": "digits"}, "engine": {"accelerator": "cpu"}, "stages": stages}
    done = nd.run(recipe, "stages.net.epochs=1", out=tmp_path)
    assert "| net |" in str(done)
    assert set(done["net"].accuracy) == {"last", "best", "selected"}
    with pytest.raises(UserError, match="unknown stage 'nett'; did you mean 'net'"):
        done["nett"]
    text = (tmp_path / "recipe.yaml").read_text()
    assert nd.run(text, out=tmp_path).record.rows[0].cached
    with pytest.raises(UserError, match="nasdistill run"):
        nd.run(text, "engine.devices=2", out=tmp_path)


def test_a_network_is_exported(tmp_path: Path, teacher: nd.Result) -> None:
    made = nd.export(teacher, tmp_path / "out", format="torch")
    assert (tmp_path / "out" / "payload" / made["exports"]["torch"]["file"]).is_file()


MISTAKES: list[tuple[Callable[[nd.Data], object], str]] = [
    (lambda data: nd.train("mlp-8", data, epoch=3), "train: epoch: unknown key 'epoch'; did you mean 'epochs'"),
    (lambda data: nd.train("mlp-8", data, epochs=0), "train: epochs: must be greater than 0"),
    (lambda data: nd.train("mlpp", data, **FAST), "unknown model 'mlpp'; did you mean 'mlp'"),
    (lambda data: nd.grow(linear(), data, **FAST), "cannot grow"),
    (lambda data: nd.train(linear(), data, fresh=True, **FAST), "cannot be drawn anew"),
    (lambda data: nd.distil("mlp-8", "mlp-4", data, **FAST), "'mlp-4' has no trained weights"),
    (lambda data: nd.transfer("mlp-8", linear(), **FAST), "does not tell which images the teacher reads"),
    (lambda data: nd.draw(nd.train("mlp-8", data, epochs=1, **FAST), "cells"), "nothing to draw"),
]


@pytest.mark.parametrize(("call", "sentence"), MISTAKES)
def test_mistakes_are_told_in_a_sentence(data: nd.Data, call: Callable[[nd.Data], object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call(data)


def test_options_stand_in_the_signature_and_results_print_well(data: nd.Data, teacher: nd.Result) -> None:
    parameters = inspect.signature(nd.train).parameters
    assert (parameters["epochs"].default, parameters["optimizer"].default) == (30, "sgd")
    assert list(parameters)[:2] == ["network", "data"]
    assert str(data) == "96 training, 60 validation, 80 test images of 1x8x8 in 10 classes"
    assert str(nd.build("mlp-16", data)) == "mlp for images of 1x8x8 in 10 classes: 1,210 parameters, not trained"
    assert "% selected" in str(teacher)
