"""The stage `grow-teacher` on the embedded digits: what it writes, what it refuses, and that options mean one thing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.artifacts import Artifact, publish
from nasdistill.component import Facts
from nasdistill.data.base import Data, Normalisation
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError, UserError
from nasdistill.growth.methods import GROWTH_METHODS, Grown
from nasdistill.growth.student import Student
from nasdistill.models.base import NetworkSpec, load_network, load_spec, save_network
from nasdistill.models.inspection import count_parameters
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES, Context, Outcome
from nasdistill.storage import read_json
from nasdistill.training.engine import EngineSettings
from nasdistill.training.records import Records
from tests.stages.parts import network_artifact

STUDENT = {"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 3}


@pytest.fixture(scope="module")
def data() -> Data:
    loaded: Data = load(registry("datasets").parse("digits"), 0)
    return dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(96)))


def grow(folder: Path, data: Data, artifact: Artifact | None = None, seed: int = 0, **options: Any) -> Outcome:
    """Run the stage into `folder`."""
    stage = build(STAGES.get("grow-teacher"), {"student": STUDENT, "images": 64, **options})
    place = Context(
        stage="teacher-arch",
        folder=folder,
        scratch=folder.with_name(folder.name + "-scratch"),
        records=Records(folder.with_name(folder.name + "-tensorboard"), "teacher-arch"),
        seed=seed,
        dataset=registry("datasets").parse("digits"),
        engine_settings=EngineSettings(accelerator="cpu", precision="32"),
    )
    place.__dict__["data"] = data
    folder.mkdir()
    outcome = stage.run({} if artifact is None else {"student": artifact}, place)
    place.records.close()
    return outcome


def test_a_trained_student_is_measured_on_images_as_it_was_trained_on(tmp_path: Path, data: Data) -> None:
    student = network_artifact(tmp_path / "student", data, STUDENT)
    other = dataclasses.replace(data, normalisation=Normalisation(mean=(0.0,), std=(0.01,)))
    for name, images in (("own", data), ("other", other)):
        grow(tmp_path / name, images, student, student="given")
    one, two = (read_json(tmp_path / name / "growth.json") for name in ("own", "other"))
    assert one == two


def test_an_architecture_of_twice_the_size_and_how_it_came_about(tmp_path: Path, data: Data) -> None:
    metrics = grow(tmp_path / "grown", data, ratio=1.5).metrics
    grown = load_spec(tmp_path / "grown")
    student = NetworkSpec(model=registry("models").parse(STUDENT), shape=(1, 8, 8), classes=10)
    parameters = count_parameters(grown.build())
    assert sorted(path.name for path in (tmp_path / "grown").iterdir()) == ["growth.json", "spec.json"]
    assert metrics["parameters"] == parameters
    assert metrics["ratio"] == pytest.approx(parameters / count_parameters(student.build()))
    assert metrics["ratio"] == pytest.approx(1.5, rel=0.02)
    assert metrics["multiply_adds"] > 0

    growth = read_json(tmp_path / "grown" / "growth.json")
    assert growth["widths"] == {"before": [4, 8, 16], "after": list(grown.model.cell_widths())}
    assert growth["units"] == ["cells.0", "cells.1", "cells.2"]
    assert growth["steps"][-1]["widths"] == growth["widths"]["after"]
    assert {moment: len(scores) for moment, scores in growth["importance"].items()} == {"before": 3, "after": 3}
    widened = [sum(step["unit"] == f"cells.{cell}" for step in growth["steps"]) for cell in range(3)]
    assert [after > before for before, after in zip(*growth["widths"].values(), strict=True)] == [
        n > 0 for n in widened
    ]


def test_layers_of_fewer_groups_have_the_units_of_the_student(tmp_path: Path, data: Data) -> None:
    grow(tmp_path / "grown", data, ratio=1.2, method={"name": "fisher-groups", "tolerance": 0.2})
    growth = read_json(tmp_path / "grown" / "growth.json")
    assert growth["units"] == ["cells.0", "cells.1", "cells.2"]
    assert growth["widths"] == {"before": [4, 8, 16], "after": [4, 8, 16]}
    assert len(growth["importance"]["before"]) == 3


def test_the_size_of_the_batches_decides_nothing(tmp_path: Path, data: Data) -> None:
    scores = []
    for size in (16, 64):
        # A trained student: an untrained one takes the statistics of its batch norms from the batches.
        grow(tmp_path / str(size), data, trained_student(tmp_path / f"student-{size}"), ratio=1.2, batch_size=size)
        scores.append(torch.tensor(read_json(tmp_path / str(size) / "growth.json")["importance"]["before"]))
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-3, atol=0)


def trained_student(place: Path, model: Any = STUDENT) -> Artifact:
    spec = NetworkSpec(model=registry("models").parse(model), shape=(1, 8, 8), classes=10)
    torch.manual_seed(3)
    network = spec.build()
    network(torch.randn(64, 1, 8, 8))  # batch norms have seen something
    prepared = place.with_name(place.name + "-prepared")
    prepared.mkdir()
    save_network(prepared, spec, network)
    about: dict[str, Any] = {"config": {}, "inputs": {}, "seed": 0, "metrics": {}, "cost": {}, "provenance": {}}
    return publish(prepared, place, kind="network", stage="student", uses="train", key="0", **about)


def test_the_same_seed_grows_the_same_and_another_may_not(tmp_path: Path, data: Data) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        grow(tmp_path / name, data, ratio=1.2, seed=seed, method={"name": "fisher", "noise": 0.1})
    growths = [read_json(tmp_path / name / "growth.json") for name in "abc"]
    assert growths[0] == growths[1]
    assert growths[0]["importance"] != growths[2]["importance"]


def test_a_plugin_may_grow_a_model_in_its_own_way(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(GROWTH_METHODS.base):  # type: ignore[misc, name-defined]
        def reason_to_refuse(self, spec: NetworkSpec) -> None:
            return None

        def grow(self, student: Student) -> Grown:
            return Grown(student.spec.model_copy(update={"model": registry("models").parse("mlp-33")}))

    monkeypatch.setattr(
        GROWTH_METHODS, "_components", {name: GROWTH_METHODS.get(name) for name in GROWTH_METHODS.loaded()}
    )
    GROWTH_METHODS.register("wider")(Wider)
    metrics = grow(tmp_path / "grown", data, student="mlp-16", method="wider").metrics
    assert metrics["parameters"] == (64 + 1) * 33 + (33 + 1) * 10
    assert read_json(tmp_path / "grown" / "growth.json")["widths"] == {"before": [16], "after": [33]}


def config(**options: Any) -> Any:
    return build(STAGES.get("grow-teacher"), {"student": "darts-v2-16-10", **options})


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": 3.0, "measure": "flops"},
        {"method": {"name": "fisher", "ratio": 3.0, "measure": "flops"}},
        {"method": {"name": "fisher", "ratio": 3.0}, "measure": "flops"},
        {"method": {"name": "fisher", "ratio": 3.0}, "ratio": 3.0, "measure": "flops"},
        {"method": GROWTH_METHODS.parse({"name": "fisher", "ratio": 3.0}), "measure": "flops"},
    ],
)
def test_the_size_may_be_given_beside_the_method_or_in_it(options: dict[str, Any]) -> None:
    stage = config(**options)
    assert (stage.ratio, stage.measure) == (stage.method.ratio, stage.method.measure) == (3.0, "flops")
    assert stage == config(ratio=3.0, measure="flops")
    assert build(type(stage), stage.model_dump(mode="json")) == stage


@pytest.mark.parametrize(
    ("options", "path", "sentence"),
    [
        (
            {"ratio": 3, "method": {"name": "uniform", "ratio": 2}},
            ("ratio",),
            "3 here but 2 in the method; give it once",
        ),
        ({"ratio": 1.0}, ("ratio",), "greater than 1"),
        ({"measure": "size"}, ("measure",), "'params', 'flops', 'bytes' or 'latency'"),
        ({"method": {"name": "fisher", "steps": 1}}, ("method", "steps"), "did you mean 'step'"),
        ({"method": "fischer"}, ("method",), "did you mean 'fisher'"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], path: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence) as caught:
        config(**options)
    assert caught.value.path == path


def test_a_student_that_cannot_grow_is_told(tmp_path: Path, data: Data) -> None:
    with pytest.raises(UserError, match="a binary network cannot grow"):
        grow(tmp_path / "grown", data, student={"name": "wrn-10-1", "binary": "weights"})


@pytest.mark.parametrize("method", ["uniform", pytest.param({"name": "fisher", "rescore": 20}, marks=pytest.mark.slow)])
def test_a_network_of_another_library_grows_group_by_group(tmp_path: Path, data: Data, method: Any) -> None:
    grow(tmp_path / "grown", data, student="torchvision:mobilenet_v3_small", method=method, ratio=1.1)
    spec = load_spec(tmp_path / "grown")
    assert spec.model.registered_name == "with-widths"
    ratio = count_parameters(spec.build()) / count_parameters(spec.model.model.build(spec.shape, spec.classes))
    assert ratio == pytest.approx(1.1, rel=0.02)


DEEP = {"name": "wrn", "depth": 16, "width": 1, "widths": [8, 8, 12, 16]}


@pytest.mark.parametrize(
    ("method", "student"),
    [("uniform", STUDENT), ("random", STUDENT), ("fisher", STUDENT), ("depth", DEEP), ("compound", DEEP)],
)
def test_a_warm_teacher_begins_with_what_its_student_computes(
    tmp_path: Path, data: Data, method: str, student: Any
) -> None:
    artifact = trained_student(tmp_path / "student", student)
    spec, network = load_network(artifact.folder)
    outcome = grow(tmp_path / "grown", data, artifact, method=method, warm=True)
    _spec, grown = load_network(tmp_path / "grown")
    assert count_parameters(grown) / count_parameters(network) == pytest.approx(2, rel=0.03)
    assert outcome.network is not None
    assert outcome.network.trained
    images = torch.randn(40, *spec.shape)
    with torch.no_grad():
        ours, theirs = grown.eval()(images), network.eval()(images)
    difference = (ours - theirs).abs().max()
    assert difference < 0.05 * theirs.abs().max()
    assert bool(difference > 0) is (method != "depth")  # which adds blocks alone; else noise tells copies apart


@pytest.mark.parametrize(
    ("student", "method", "new_channels"),
    [(STUDENT, "uniform", "zero"), (STUDENT, "uniform", "gradmax"), (DEEP, "depth", "gradmax")],
)
def test_new_channels_without_effect_leave_the_teacher_exactly_its_students_function(
    tmp_path: Path, data: Data, student: Any, method: str, new_channels: str
) -> None:
    artifact = trained_student(tmp_path / "student", student)
    for name in "ab":
        grow(tmp_path / name, data, artifact, method=method, warm=True, new_channels=new_channels)
    spec, network = load_network(artifact.folder)
    grown, again = (load_network(tmp_path / name)[1] for name in "ab")
    images = torch.randn(40, *spec.shape)
    with torch.no_grad():
        torch.testing.assert_close(grown.eval()(images), network.eval()(images), rtol=1e-4, atol=1e-5)
    assert all(map(torch.equal, grown.state_dict().values(), again.state_dict().values()))


def test_new_channels_of_a_teacher_that_is_drawn_are_told_to_have_no_effect() -> None:
    assert [name for name, _why in config(new_channels="zero").without_effect(Facts(10))] == ["new_channels"]
    assert not [*config().without_effect(Facts(10))]
    told = config(method="uniform", warm=True, new_channels="gradmax", images=64).without_effect(Facts(10))
    assert not [*told]


@pytest.mark.parametrize(
    ("student", "sentence"),
    [
        (STUDENT, "blocks of 'darts' cannot pass on what they read"),
        ("wrn-10-1", "with a block more it is more than 2 times as large"),
    ],
)
def test_blocks_that_would_change_what_is_computed_are_told(
    tmp_path: Path, data: Data, student: Any, sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence) as caught:
        grow(tmp_path / "grown", data, student=student, method="depth", warm=True)
    assert caught.value.path == ("warm",)
