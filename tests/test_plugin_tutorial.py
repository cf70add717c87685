"""The tutorial's plug-ins work as it says: one by one, and together in its recipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nasdistill.cli.main import main
from nasdistill.closure import PLUGIN_FOLDER
from nasdistill.data.preparation import load
from nasdistill.distill.objectives import Outputs
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.student import Student
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.inspection import count_parameters
from nasdistill.plugins import load_plugin
from nasdistill.registry import plugins, registry
from nasdistill.search.fan import Fan
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.training.batches import Batch
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.zero_shot.generator_losses import Pseudo

REPOSITORY = Path(__file__).parent.parent
PAGE = REPOSITORY / "docs/tutorial/plugins.md"
FOLDER = REPOSITORY / "docs/tutorial/plugins"
KINDS = ("objectives", "augmentations", "growth-methods", "spaces", "divergences", "generator-losses")
KINDS += ("samplers", "edges", "regularisers", "stages", "sections", "loggers")


@pytest.fixture(autouse=True)
def _loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for kind in KINDS:
        registry(kind).names()
        monkeypatch.setattr(
            registry(kind), "_components", {name: registry(kind).get(name) for name in registry(kind).loaded()}
        )
    monkeypatch.setattr(plugins, "broken", {})
    for file in (
        "my_objective.py",
        "my_growth_method.py",
        "my_space.py",
        "my_zero_shot.py",
        "my_search.py",
        "my_batch_augmentation.py",
        "my_section.py",
        "my_logger.py",
    ):
        load_plugin(file, FOLDER)
    assert plugins.broken == {}
    yield
    for name in [name for name in sys.modules if name.startswith(PLUGIN_FOLDER)]:
        del sys.modules[name]


def test_the_objective_is_pearsons_correlation_and_trains_a_student() -> None:
    objective = registry("objectives").parse({"name": "correlation", "temperature": 4})
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(16, 5)) for _ in range(2))
    images, labels = torch.randn(6, 1, 4, 4), torch.arange(6) % 5
    task = Distillation(student, [Teacher(teacher)], with_label_term([objective]), (1, 4, 4))
    losses = task(Batch(images, labels, torch.arange(6)))
    rows = zip(*((network(images) / 4).softmax(1).detach().numpy() for network in (student, teacher)), strict=True)
    expected = 1 - np.mean([np.corrcoef(*pair)[0, 1] for pair in rows])
    assert losses["correlation"].item() == pytest.approx(expected, rel=1e-5)
    assert losses["cross-entropy"].item() == pytest.approx(nn.functional.cross_entropy(student(images), labels).item())
    torch.stack(list(losses.values())).sum().backward()
    assert student[1].weight.grad is not None


def test_the_augmentation_gives_each_label_the_columns_of_its_image() -> None:
    augmentation = registry("augmentations").parse("side-by-side")
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 3, 4, 8)
    drawn = augmentation.sample(6, (4, 8), torch.Generator().manual_seed(1))
    mixed, targets = augmentation.mix(images, torch.eye(6), drawn)
    for n in range(6):
        left = int((mixed[n, 0, 0] == n).sum())
        assert mixed[n].unique(dim=1).shape[1] == 1  # all rows alike
        assert (mixed[n, 0, 0, :left] == n).all()
        assert targets[n].tolist() == [{n: left / 8, (n - 1) % 6: 1 - left / 8}.get(k, 0) for k in range(6)]
    assert {float(each) for each in drawn} > {float(drawn[0])}


def test_the_growth_rule_widens_where_norms_scale_most() -> None:
    method = GROWTH_METHODS.parse({"name": "norm-scale", "ratio": 1.5, "widest": 1.75})
    spec = NetworkSpec(model=MODELS.parse("darts-v2-8-3"), shape=(1, 8, 8), classes=10)
    engine = Engine(EngineSettings(accelerator="cpu", precision="32"))
    network = spec.build()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.num_batches_tracked += 1
    for cell, scale in enumerate((0.5, 2.0, 0.25)):
        for norm in network.cells[cell].modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.constant_(norm.weight, scale * (-1) ** cell)
    grown = method.grow(Student(spec, network, [], engine))
    assert grown.importance["before"] == [0.5, 2.0, 0.25]
    assert 1.47 <= count_parameters(grown.spec.build()) / count_parameters(network) <= 1.53
    assert grown.steps[0]["unit"] == "cells.1"
    assert grown.spec.model.cell_widths()[1] == 28


def test_the_space_can_be_named() -> None:
    space = registry("spaces").parse("frugal")
    assert space.spec()["operations"] == ["none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3"]
    assert registry("spaces").parse({"name": "frugal", "cells": 6}).cells == 6


def test_the_parts_of_a_search_do_what_they_say() -> None:
    alphas = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]])
    sampler = registry("samplers").parse({"name": "perturbed", "reach": 0.5})
    moved = sampler.weights(alphas, Moment(0.5, "training")).log() - alphas.log_softmax(1)
    assert 0 < float((moved - moved.mean(1, keepdim=True)).abs().max()) < 0.5
    for moment in (Moment(0.5, "validation"), Moment(0.5)):
        assert torch.equal(sampler.weights(alphas, moment), alphas.softmax(1))

    space = registry("spaces").parse("frugal")
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 0.5, 0.0, 0.5]])
    mixture = Mixture("normal", Moment(0.25, "training"), weights.log(), weights)
    entropy = registry("regularisers").parse("entropy").loss(space, mixture)
    assert entropy.item() == pytest.approx((np.log(4) + np.log(2)) / 2)

    fan = registry("edges").parse("auxiliary-skip").fan(space, 4, 2, 1)
    state = torch.randn(3, 4, 5, 5)
    added = fan(state, mixture) - Fan.forward(fan, state, mixture)
    torch.testing.assert_close(added, 0.75 * torch.cat([state, state], dim=1), atol=1e-6, rtol=0)


def test_a_search_of_these_parts_runs(tmp_path: Path) -> None:
    parts = "sampler: perturbed, edges: auxiliary-skip, regularisers: [{name: entropy, weight: 0.1}]"
    strategy = f"{{name: darts, epochs: 1, batch_size: 16, {parts}}}"
    options = ["--space", "{name: darts-tiny, search_channels: 4, search_cells: 3}", "--strategy", strategy]
    plugin = ["--plugin", str(FOLDER / "my_search.py"), "--data", "{name: digits, limit: 60}"]
    assert main(["search", *options, *plugin, "--out", str(tmp_path)]) == 0
    (history,) = tmp_path.rglob("history.json")
    curves = json.loads(history.read_text())["curves"]
    assert curves["regulariser/entropy"] == [[1, pytest.approx(0.1 * np.log(5), rel=0.01)]]


def test_the_divergence_is_one_minus_the_sum_of_geometric_means() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 5).mul(3)
    between = registry("divergences").parse({"name": "hellinger", "reduction": "batchmean"}).between
    geometric = (student.softmax(1) * teacher.softmax(1)).sqrt().sum(1)
    assert between(student, teacher).item() == pytest.approx(1 - geometric.mean().item(), rel=1e-5)
    assert between(teacher, teacher).item() == 0


def test_the_generator_loss_is_the_gap_of_the_two_likeliest_classes() -> None:
    loss = registry("generator-losses").parse({"name": "margin", "largest": 3})
    logits = torch.tensor([[1.0, 5.0, 2.5], [9.0, 0.0, 1.0]], requires_grad=True)
    pseudo = Pseudo(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), None, Outputs(logits, {}))
    value = loss.loss(pseudo)
    assert value.item() == (2.5 + 3) / 2
    value.backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, 0.5, -0.5], [0.0, 0.0, 0.0]]


def test_the_stage_brings_its_section_to_the_report(tmp_path: Path) -> None:
    assert main(["brightness", "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "stages/brightness/brightness.json").read_text())["classes"]
    test = load(registry("datasets").parse("digits"), 0).test
    assert told["3"] == pytest.approx(test.images.numpy()[test.labels.numpy() == 3].mean() / 255)
    page = (tmp_path / "report.html").read_text()
    assert 'aria-label="brightness"' in page[page.index("<h2>How bright the classes are</h2>") :]


def test_the_logger_writes_the_curve_and_goes_on_where_training_does(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"{{name: small, data: {{name: digits, limit: 100}}, plugins: [{FOLDER / 'my_logger.py'}], loggers: [curve], "
        "stages: [{name: one, uses: train, with: {model: mlp-8, epochs: 2}}]}"
    )
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 0
    curves = json.loads((tmp_path / "out/stages/one/history.json").read_text())["curves"]["validation/accuracy"]
    table = tmp_path / "out/tensorboard/one.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert [float(value) for _step, value in rows] == [value for _epoch, value in curves]
    assert main(["run", str(recipe), "--out", str(tmp_path / "out"), "loggers=[tensorboard]"]) == 0  # finds all done
    assert [path.name for path in table.parent.iterdir()] == ["one.csv"]
    again = registry("loggers").parse("curve").open(tmp_path / "out/tensorboard/one", int(rows[1][0]))
    again.scalars({"validation/accuracy": 12.5}, 9)
    again.close()
    assert table.read_text() == f"{','.join(rows[0])}\n9,12.5\n"


def test_the_page_shows_the_files_that_are_tested() -> None:
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith("```{literalinclude}")]
    files = [line.removeprefix("```{literalinclude} ") for line in shown]
    assert sorted(files) == sorted(f"plugins/{path.name}" for path in FOLDER.iterdir() if path.is_file())


def test_the_recipe_runs(tmp_path: Path) -> None:
    tiny = [f"stages.{stage}.epochs=1" for stage in ("teacher", "student")]
    assert main(["run", str(FOLDER / "recipe.yaml"), "--out", str(tmp_path), "data.limit=100", *tiny]) == 0
    rows = {row["stage"]: row for row in json.loads((tmp_path / "results.json").read_text())}
    assert list(rows) == ["student-arch", "teacher-arch", "teacher", "student"]
    assert 1.96 <= rows["teacher"]["parameters"] / rows["student"]["parameters"] <= 2.04
    manifest = json.loads((tmp_path / rows["student"]["artifact"] / "artifact.json").read_text())
    assert any("my_objective.py" in name for name in json.dumps(manifest["provenance"]).split('"'))
