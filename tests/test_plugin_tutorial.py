"""The tutorial's plug-ins work as it says: one by one, and together in its recipe."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import nn

import nasdistill.registry as registry_module
from nasdistill.cli.main import main
from nasdistill.closure import PLUGIN_FOLDER
from nasdistill.data.preparation import load
from nasdistill.distill.objectives import Outputs
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from nasdistill.growth.coupling import groups_of
from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.student import Student
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.cell_strings import parse_cell
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
KINDS = [kind for kind, place in registry_module.KINDS.items() if place.startswith("nasdistill.")]


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for kind in KINDS:
            patch.setattr(
                registry(kind), "_components", {name: registry(kind).get(name) for name in registry(kind).loaded()}
            )
        patch.setattr(registry_module, "KINDS", dict(registry_module.KINDS))
        patch.setattr(registry_module, "_registries", dict(registry_module._registries))
        patch.setattr(plugins, "broken", {})
        for file in sorted(FOLDER.glob("*.py")):
            load_plugin(str(file))
        assert plugins.broken == {}
        yield
    for name in [name for name in sys.modules if name.startswith(PLUGIN_FOLDER)]:
        del sys.modules[name]


def function(kind: str, component: str, name: str) -> Callable[..., Any]:
    """A function that stands in the file of a component."""
    found: Callable[..., Any] = getattr(sys.modules[registry(kind).get(component).__module__], name)
    return found


def stripes(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [N, 8, 8] whose stripes lie (class 0) or stand (class 1), of many contrasts and the same mean."""
    labels = np.arange(count) % 2
    lying = np.where(np.arange(8) % 2, 1, -1)[:, None].repeat(8, axis=1)
    images = 128 + np.stack([lying, lying.T])[labels] * (40 + np.arange(count))[:, None, None]
    return images.astype(np.uint8), labels


RECIPE = """
name: examples
plugins: [{plugins}]
data: {{name: npz, file: stripes.npz}}
stages:
  - name: teacher
    uses: train
    with:
      model: {{name: conv-mixer, width: 8, depth: 1, kernel: 3}}
      epochs: 10
      batch_size: 10
      optimizer: {{name: lion, lr: 0.01}}
      schedule: {{name: stable-decay, cooldown: 0.5}}
  - {{name: product, uses: export, with: {{network: teacher, format: half}}}}
  - {{name: grey, uses: robustness, with: {{network: teacher, corruption: {{name: contrast, left: 0}}}}}}
  - {{name: same, uses: robustness, with: {{network: teacher, corruption: {{name: contrast, left: 1}}}}}}
  - name: arch
    uses: search
    with:
      space: {{name: frugal, operations: [inverted_residual_3x3], nodes: 1}}
      strategy: {{name: training-free, samples: 2, images: 8}}
  - name: student
    uses: zero-shot
    with:
      teacher: teacher
      student: mlp-8
      generator: {{name: transposed, channels: 8}}
      pseudo_batches: 2
      batch_size: 16
      watch_every: 1
      objectives: [divergence]
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `RECIPE` on stripes."""
    folder = tmp_path_factory.mktemp("examples")
    arrays = {}
    for part, count in (("train", 60), ("val", 20), ("test", 30)):
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = stripes(count)
    np.savez(folder / "stripes.npz", **arrays)
    files = ("dataset", "network", "training", "exporter", "kind", "space", "strategy", "generator")
    for name in files:
        shutil.copy(FOLDER / f"my_{name}.py", folder)
    (folder / "recipe.yaml").write_text(RECIPE.format(plugins=", ".join(f"my_{name}.py" for name in files)))
    assert main(["run", str(folder / "recipe.yaml"), "--out", str(folder / "out"), "--trust"]) == 0
    return folder / "out"


def metrics(run: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "stages" / stage / "artifact.json").read_text())["metrics"]
    return found


def test_every_kind_has_an_example() -> None:
    ours = {each.registered_kind for each in registry_module.loaded() if each.__module__.startswith(PLUGIN_FOLDER)}
    assert ours == {*KINDS, "corruptions"}


def test_the_model_has_the_papers_number_of_weights_and_learns_stripes(examples: Path) -> None:
    width, kernel, classes = 8, 3, 2
    stem = (1 + 1 + 2) * width
    block = (kernel**2 + 1 + 2) * width + (width + 1 + 2) * width
    assert metrics(examples, "teacher")["parameters"] == stem + block + (width + 1) * classes
    assert metrics(examples, "teacher")["accuracy"]["last"] == 100


def test_the_operation_is_an_inverted_residual(examples: Path) -> None:
    operation = registry("operations").parse("inverted_residual_3x3")
    same, half = (operation.build(4, stride, True) for stride in (1, 2))
    assert count_parameters(same) == 4 * 12 + 9 * 12 + 12 * 4 + 2 * (12 + 12 + 4)
    nn.init.zeros_(same[-1].weight)
    images = torch.randn(2, 4, 7, 7)
    assert torch.equal(same(images), images)
    assert half(images).shape == (2, 4, 4, 4)
    genotype = json.loads((examples / "stages/arch/genotype.json").read_text())
    assert {operation for cell in genotype.values() for operation, _state in cell[0]} == {"inverted_residual_3x3"}


def test_the_data_set_reads_what_numpy_wrote(examples: Path) -> None:
    data = load(registry("datasets").parse({"name": "npz", "file": str(examples.parent / "stripes.npz")}), 0)
    assert (len(data.train), len(data.validation), len(data.test)) == (60, 20, 30)
    assert (data.classes, data.shape) == (("0", "1"), (1, 8, 8))
    images, labels = stripes(30)
    np.testing.assert_array_equal(data.test.images[:, 0], images)
    np.testing.assert_array_equal(data.test.labels, labels)
    colours = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    read = function("datasets", "npz", "images_in")({"a_images": colours, "a_labels": np.array([[1], [0]])}, "a")
    assert read.shape == (3, 4, 5)
    np.testing.assert_array_equal(read.images[:, 2], colours[..., 2])


def test_the_strategy_keeps_the_highest_score(examples: Path) -> None:
    codes = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]]).double()
    score = function("strategies", "training-free", "log_determinant")(codes)
    assert score == pytest.approx(np.log(np.linalg.det([[4, 3, 0], [3, 4, 1], [0, 1, 4]])))
    data = load(registry("datasets").parse({"name": "npz", "file": str(examples.parent / "stripes.npz")}), 0)
    space = registry("spaces").parse({"name": "frugal", "nodes": 1})
    engine = Engine(EngineSettings(accelerator="cpu", precision="32"))
    found = [
        registry("strategies")
        .parse({"name": "training-free", "samples": samples, "images": 8})
        .search(space, data, engine, 0)
        for samples in (1, 2, 4)
    ]
    scores = [each.metrics["score"] for each in found]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    assert found[0].model != found[-1].model


def test_the_optimizer_steps_as_worked_out_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = registry("optimizers").parse({"name": "lion", "lr": 0.1, "weight_decay": 0.5}).build([weight])
    # m = 0, then 0.005: at the second step 0.9 * 0.005 - 0.1 * 0.04 > 0, against the gradient.
    for gradient, expected in ((0.5, 1 - 0.1 * (1 + 0.5)), (-0.04, 0.85 - 0.1 * (1 + 0.425))):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        assert weight.item() == pytest.approx(expected)
    assert optimizer.state[weight]["momentum"].item() == pytest.approx(0.99 * 0.005 - 0.01 * 0.04)


def test_the_schedule_is_flat_and_then_a_line(examples: Path) -> None:
    curves = json.loads((examples / "stages/teacher/history.json").read_text())["curves"]
    last_steps = range(5, 60, 6)
    expected = [0.01 * min(1, (60 - step) / 30) for step in last_steps]
    assert [rate for _epoch, rate in curves["learning rate"]] == pytest.approx(expected)


def test_the_export_holds_the_weights_in_half_precision(examples: Path) -> None:
    exported = examples / "stages/product/half.safetensors"
    weights, halves = load_file(examples / "stages/teacher/weights.safetensors"), load_file(exported)
    assert halves.keys() == weights.keys()
    for name, value in weights.items():
        if value.dtype == np.float32:
            assert halves[name].dtype == np.float16
            np.testing.assert_allclose(halves[name].astype(np.float32), value, rtol=2**-11, atol=2**-25)
    with safe_open(exported, "numpy") as file:
        assert json.loads(file.metadata()["labels"]) == ["0", "1"]


def test_the_generator_makes_normalised_images(examples: Path) -> None:
    generator = registry("generators").parse({"name": "transposed", "channels": 8})
    network = generator.build((1, 8, 12), 64, 2)
    assert count_parameters(network) == 101 * 8 * 2 * 3 + 2 * 8 + (8 * 16 + 1) * 4 + 2 * 4 + 4 * 16 + 1
    images = network(torch.randn(64, generator.latent((1, 8, 12))))
    assert images.shape == (64, 1, 8, 12)
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.var(unbiased=False).item() == pytest.approx(1, abs=1e-3)
    with pytest.raises(UserError, match="multiples of 4, not 30x32"):
        generator.build((3, 30, 32), 1, 2)
    assert metrics(examples, "student")["parameters"] == 65 * 8 + 9 * 2
    pictures = json.loads((examples / "stages/student/pseudo.json").read_text())["pictures"]
    assert len(pictures[0]["images"][0][0]) == 8


def test_a_kind_of_ones_own_is_listed_and_scores_a_network(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "corruptions"]) == 0
    assert "Brings each image closer to its mean" in capsys.readouterr().out
    assert metrics(examples, "same")["robustness"] == metrics(examples, "teacher")["accuracy"]["selected"]
    assert metrics(examples, "grey")["robustness"] == 50  # all images are alike, and half of them of each class


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


def test_the_criterion_spares_the_filters_that_differ_most() -> None:
    spec = NetworkSpec(model=registry("models").parse("mlp-4-3"), shape=(1, 1, 2), classes=2)
    network = spec.build()
    with torch.no_grad():
        network.hidden[0][0].weight.copy_(torch.tensor([[0.0, 0], [0, 3], [4, 0], [0, 0]]))
    groups = [group for group in groups_of(spec) if group.fixed is None][:1]
    student = Student(spec, network, [], Engine(EngineSettings(accelerator="cpu", precision="32")))
    (scores,) = registry("criteria").parse("geometric-median").scores(student, groups).values()
    torch.testing.assert_close(scores, torch.tensor([0.0 + 3 + 4 + 0, 3 + 5 + 3, 4 + 5 + 4, 3 + 4]))


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


def test_the_proxy_is_how_far_a_linear_network_carries_noise() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 4, bias=False)).double()
    nn.init.eye_(network[1].weight)
    images = torch.zeros(4096, 1, 3, 3, dtype=torch.float64)
    proxy = registry("proxies").parse({"name": "expressivity", "noise": 0.5})
    # Of noise with the deviation s four values arrive, whose length has the mean s * sqrt(2) * gamma(5/2) / gamma(2).
    expected = np.log(0.5 * 2**0.5 * 0.75 * np.pi**0.5)
    assert proxy.score(network, images, torch.zeros(4096, dtype=torch.int64)) == pytest.approx(expected, abs=0.03)


def test_the_parts_of_a_search_do_what_they_say() -> None:
    alphas = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]])
    sampler = registry("samplers").parse({"name": "jittered", "reach": 0.5})
    moved = sampler.weights(alphas, Moment(0.5, "training")).log() - alphas.log_softmax(1)
    assert 0 < float((moved - moved.mean(1, keepdim=True)).abs().max()) < 0.5
    for moment in (Moment(0.5, "validation"), Moment(0.5)):
        assert torch.equal(sampler.weights(alphas, moment), alphas.softmax(1))

    space = registry("spaces").parse("frugal")
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 0.5, 0.0, 0.5]])
    mixture = Mixture("normal", Moment(0.25, "training"), weights.log(), weights)
    entropy = registry("regularisers").parse("entropy").loss(space, mixture)
    assert entropy.item() == pytest.approx((np.log(4) + np.log(2)) / 2)

    fan = registry("edges").parse("auxiliary-skip").fan(space, 4, [space.operations] * 2, 1)
    state = torch.randn(3, 4, 5, 5)
    added = fan(state, mixture) - Fan.forward(fan, state, mixture)
    torch.testing.assert_close(added, 0.75 * torch.cat([state, state], dim=1), atol=1e-6, rtol=0)


def lines_of(file: Path, name: str) -> int:
    """That are not blank, of a whole file, or of one class in it."""
    text = file.read_text()
    if name:
        (found,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name)
        text = "\n".join(text.splitlines()[found.decorator_list[0].lineno - 1 : found.end_lineno])
    return sum(bool(line.strip()) for line in text.splitlines())


def test_the_page_counts_its_lines() -> None:
    rows = re.findall(r"^\| an? [^|]* \| (?:`(\w+)` in )?`(my_\w+\.\w+)` \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [(name, file) for name, file, _told in rows] == [
        ("InvertedResidual3x3", "my_network.py"),
        ("", "my_space.yaml"),
        ("", "my_space.py"),
        ("", "my_strategy.py"),
        ("", "my_successor.py"),
        ("Jittered", "my_search.py"),
    ]
    assert [int(told) for _name, _file, told in rows] == [lines_of(FOLDER / file, name) for name, file, _told in rows]


def test_the_strategy_of_parts_searches_the_space_of_the_file(tmp_path: Path) -> None:
    command = ["search", "--space", str(FOLDER / "my_space.yaml"), "--data", "{name: digits, limit: 60}"]
    command += ["--strategy", "{name: frugal-darts, epochs: 2, batch_size: 8, warm_up: 0.5}", "--out", str(tmp_path)]
    plugins_of = ("my_network.py", "my_successor.py")
    assert main([*command, *(part for name in plugins_of for part in ("--plugin", str(FOLDER / name)))]) == 0
    (history,) = tmp_path.rglob("history.json")
    curves = json.loads(history.read_text())["curves"]
    assert len({name for name in curves if name.endswith("/inverted_residual_3x3")}) == 10  # an edge each
    assert [epoch for epoch, _loss in curves["validation/loss"]] == [2]
    assert parse_cell(json.loads(history.with_name("spec.json").read_text())["model"]["cell"])[3:]
    strategy = registry("strategies").parse("frugal-darts")
    assert (strategy.sampler.registered_name, strategy.edges.divisor) == ("gumbel", 2)


def test_the_selection_drops_weak_edges() -> None:
    space = registry("spaces").parse({"name": "frugal", "nodes": 2})
    weights = torch.tensor([[0.0, 0.9, 0, 0.1], [0, 0, 0.3, 0.7], [0, 0.2, 0, 0.8], [0, 0, 0.8, 0.2], [1, 0, 0, 0]])
    mixture = Mixture("normal", Moment(1.0), weights.log(), weights)
    selection = registry("selections").parse({"name": "above-threshold", "threshold": 0.75})
    assert selection.cell(space, mixture) == (
        (("skip_connect", 0),),
        (("sep_conv_3x3", 0), ("avg_pool_3x3", 1)),
    )


def test_a_search_of_these_parts_runs(tmp_path: Path) -> None:
    parts = "sampler: jittered, edges: auxiliary-skip, regularisers: [{name: entropy, weight: 0.1}], "
    parts += "selection: {name: above-threshold, threshold: 1}"
    strategy = f"{{name: darts, epochs: 1, batch_size: 16, {parts}}}"
    options = ["--space", "{name: darts-tiny, search_channels: 4, search_cells: 3}", "--strategy", strategy]
    plugin = ["--plugin", str(FOLDER / "my_search.py"), "--data", "{name: digits, limit: 60}"]
    assert main(["search", *options, *plugin, "--out", str(tmp_path)]) == 0
    (history,) = tmp_path.rglob("history.json")
    genotype = json.loads(history.with_name("genotype.json").read_text())
    assert [len(edges) for cell in genotype.values() for edges in cell] == [1] * 6
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
    assert main(["brightness", "--plugin", str(FOLDER / "my_section.py"), "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "stages/brightness/brightness.json").read_text())["classes"]
    test = load(registry("datasets").parse("digits"), 0).test
    assert told["3"] == pytest.approx(test.images.numpy()[test.labels.numpy() == 3].mean() / 255)
    page = (tmp_path / "report.html").read_text()
    assert 'aria-label="brightness"' in page[page.index("<h2>How bright the classes are</h2>") :]


def test_the_logger_writes_the_curve_and_goes_on_where_training_does(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "my_logger.py", tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{name: small, data: {name: digits, limit: 100}, plugins: [my_logger.py], loggers: [curve], "
        "stages: [{name: one, uses: train, with: {model: mlp-8, epochs: 2}}]}"
    )
    assert main(["run", str(recipe), "--out", str(tmp_path / "out"), "--trust"]) == 0
    curves = json.loads((tmp_path / "out/stages/one/history.json").read_text())["curves"]["validation/accuracy"]
    table = tmp_path / "out/tensorboard/one.curve"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert [float(value) for _step, value in rows] == [value for _epoch, value in curves]
    assert main(["run", str(recipe), "--out", str(tmp_path / "out"), "loggers=[tensorboard]"]) == 0  # finds all done
    assert sorted(path.name for path in table.parent.iterdir()) == ["one.curve", "one.key"]
    again = registry("loggers").parse("curve").open(tmp_path / "out/tensorboard/one", int(rows[1][0]), {})
    again.scalars({"validation/accuracy": 12.5}, 9)
    again.close()
    assert table.read_text() == f"{','.join(rows[0])}\n9,12.5\n"


def test_the_page_shows_the_files_that_are_tested() -> None:
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith("```{literalinclude}")]
    files = [line.removeprefix("```{literalinclude} ") for line in shown]
    assert sorted(files) == sorted(f"plugins/{path.name}" for path in FOLDER.iterdir() if path.is_file())


def test_the_recipe_runs(tmp_path: Path) -> None:
    tiny = [f"stages.{stage}.epochs=1" for stage in ("teacher", "student")]
    assert main(["run", str(FOLDER / "recipe.yaml"), "--out", str(tmp_path), "data.limit=100", *tiny, "--trust"]) == 0
    rows = {row["stage"]: row for row in json.loads((tmp_path / "results.json").read_text())}
    assert list(rows) == ["student-arch", "teacher-arch", "teacher", "student"]
    assert 1.96 <= rows["teacher"]["parameters"] / rows["student"]["parameters"] <= 2.04
    manifest = json.loads((tmp_path / rows["student"]["artifact"] / "artifact.json").read_text())
    assert any("my_objective.py" in name for name in json.dumps(manifest["provenance"]).split('"'))
