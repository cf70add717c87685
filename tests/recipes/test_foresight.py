"""What cannot work is refused before the first stage runs, by a plan as by a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasdistill import resources
from nasdistill.artifacts import MANIFEST
from nasdistill.data.base import ImageSet, RawData, Shape, Words
from nasdistill.errors import UserError
from nasdistill.models.base import MODELS
from nasdistill.recipes import runner
from nasdistill.recipes.loading import Recipe, load_recipe
from nasdistill.recipes.source import parse
from nasdistill.stages import STAGES, Context, Outcome, Stage
from tests.stages.parts import few_digits, network_artifact

FIRST = 4
"""The line of a recipe's first stage."""


def stage(name: str, uses: str, **options: Any) -> str:
    """A stage, in one line of YAML."""
    if uses in ("train", "distill"):
        options = {"epochs": 1, **options}
    return json.dumps({"name": name, "uses": uses, "with": options})


def taught(*objectives: Any, student: Any = "mlp-8", teacher: Any = "teacher", **options: Any) -> str:
    return stage("student", "distill", student=student, teacher=teacher, objectives=objectives, **options)


def transferred(*losses: Any, **options: Any) -> str:
    given = {"student": "mlp-8", "teacher": "teacher", "objectives": ["divergence"], "generator_losses": losses}
    return stage("student", "zero-shot", **given, **options)


TEACHER = stage("teacher", "train", model="wrn-10-1")
SEARCH = stage("found", "search", space="darts-tiny", epochs=1)
SMALL = {"name": "darts-v2", "channels": 4, "cells": 3}


def recipe_of(*stages: str, data: str = "{name: digits, limit: 200}") -> Recipe:
    text = "\n".join(["name: wrong", f"data: {data}", "stages:", *(f"  - {each}" for each in stages)])
    return load_recipe(parse(text, "wrong.yaml"))


def refusal(recipe: Recipe, out: Path) -> str:
    """The sentence of the plan, which is that of the run; neither runs a stage."""
    with pytest.raises(UserError) as planned:
        runner.plan(recipe, out)
    with pytest.raises(UserError) as ran:
        runner.run(recipe, out, "nasdistill run wrong.yaml")
    assert str(ran.value) == str(planned.value)
    assert not list(out.rglob(MANIFEST))
    assert not (out / "work").exists()
    return str(planned.value)


@pytest.mark.parametrize(
    ("stages", "key", "problem"),
    [
        (
            [SEARCH, stage("grown", "grow-teacher", student={"name": "wrn-10-1", "binary": "weights"})],
            "grown.student",
            "a binary network cannot grow",
        ),
        (
            [SEARCH, stage("grown", "grow-teacher", student=SMALL, ratio=99)],
            "grown.student",
            "widening units up to 4 times cannot reach 99 times",
        ),
        ([TEACHER, taught("attention")], "student.objectives", "attention: the student has no feature points"),
        (
            [TEACHER, taught("kd", {"name": "similarity", "pairs": [["hidden", "group9"]]})],
            "student.objectives",
            "the teacher has no module 'group9'",
        ),
        (
            [TEACHER, stage("hinted", "hints", student="wrn-16-1", teacher="teacher", pair=["group7", "groups.1"])],
            "hinted.pair",
            "hints: the student has no module 'group7'",
        ),
        (
            [stage("teacher", "train", model="mlp-8"), transferred("batch-norm", "adversarial")],
            "student.generator_losses",
            "batch-norm: the teacher has no batch norm, which would remember the statistics of its training images",
        ),
        (
            [TEACHER, transferred({"name": "activation", "point": "group9"})],
            "student.generator_losses",
            "activation: the teacher has no module 'group9'",
        ),
        (
            [TEACHER, transferred("adversarial", generator={"name": "noisy-layer"}, latent_speed=1)],
            "student.latent_speed",
            "the generator 'noisy-layer' has no latents that could learn",
        ),
        ([TEACHER, stage("binary", "binarise", network="mlp-8")], "binary.network", "there is nothing to make binary"),
        ([TEACHER, stage("vit", "train", model="torchvision:vit_b_16")], "vit.model", "torchvision:vit_b_16 does not "),
        (
            [
                TEACHER,
                stage("other", "train", model="wrn-16-1"),
                stage("both", "ensemble", networks=["teacher", "other"]),
                taught("attention", student="wrn-16-1", teacher="both"),
            ],
            "student.objectives",
            "attention: the teacher has no feature points",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    stages: list[str], key: str, problem: str, tmp_path: Path
) -> None:
    told = refusal(recipe_of(*stages), tmp_path / "out")
    assert told.startswith(f"wrong.yaml:{FIRST - 1 + len(stages)}: stages.{key}: {problem}"), told


@pytest.mark.parametrize(
    ("changes", "made_for", "advice"),
    [
        (
            {"shape": (1, 16, 16)},
            "1x16x16 in 10",
            "; the stage `adapt` fits it to them, or with `size: own` resizes them",
        ),
        ({"classes": 7}, "1x8x8 in 7", ""),
    ],
)
def test_a_teacher_of_another_size_or_of_other_classes_is_refused(
    changes: dict[str, Any], made_for: str, advice: str, tmp_path: Path
) -> None:
    given = str(network_artifact(tmp_path / "given", few_digits(), "mlp-4", **changes).folder)
    told = refusal(recipe_of(SEARCH, taught("kd", student="found", teacher=given)), tmp_path / "out")
    sentence = f"the teacher {given!r} is made for images of {made_for} classes; the data set has 1x8x8 in 10 classes"
    assert told == f"wrong.yaml:5: stages.student.teacher: {sentence}{advice}"


def test_without_data_networks_are_compared_with_the_first_teacher(tmp_path: Path) -> None:
    small, large = (
        str(network_artifact(tmp_path / f"{size}", few_digits(), "mlp-4", shape=(1, size, size)).folder)
        for size in (8, 16)
    )
    student = stage("student", "zero-shot", student="mlp-8", teacher=[small, large], objectives=["divergence"])
    told = refusal(recipe_of(student, data="none"), tmp_path / "out")
    sentence = "reads images of 1x16x16 in 10 classes, the first teacher images of 1x8x8 in 10 classes"
    assert told == f"wrong.yaml:4: stages.student.teacher.1: {large!r} {sentence}"


def test_embeddings_that_are_too_few_are_refused_with_the_order_of_the_classes(tmp_path: Path) -> None:
    file = tmp_path / "names.npy"
    np.save(file, np.eye(7))
    told = refusal(
        recipe_of(TEACHER, transferred("class-prior", generator={"name": "noisy-layer", "embeddings": str(file)})),
        tmp_path / "out",
    )
    order = "it must have one for each, in this order: '0', '1', '2', '3', '4' and 5 more"
    assert told == f"wrong.yaml:5: stages.student.generator.embeddings: {file} has 7 rows for 10 classes; {order}"


def test_an_adapted_network_is_what_later_stages_are_checked_with(tmp_path: Path) -> None:
    given = str(network_artifact(tmp_path / "given", few_digits(), "wrn-10-1", shape=(3, 16, 16), classes=7).folder)
    fitted = stage("fitted", "adapt", network=given, head="new")
    student = taught("attention", student="wrn-10-1", teacher="fitted")
    assert len(runner.plan(recipe_of(fitted, student), tmp_path / "out")) == 2
    wrong = taught(
        {"name": "attention", "pairs": [["groups.1", "groups.1"]]}, student="wrn-10-1", teacher="fitted"
    )  # the network lies within another, that reads its images
    assert "the teacher has no module 'groups.1'; " in refusal(recipe_of(fitted, wrong), tmp_path / "out")
    keeps = stage("fitted", "adapt", network=given)
    assert "wrong.yaml:4: stages.fitted.head: " in refusal(recipe_of(keeps, student), tmp_path / "out")


def test_what_a_space_holds_tells_whether_what_is_found_can_grow(tmp_path: Path) -> None:
    def recipe(space: str) -> Recipe:
        found = stage("found", "search", space=space, strategy="random")
        return recipe_of(found, stage("grown", "grow-teacher", student="found", ratio=15))

    # Some networks of cells can become so large and some cannot: the search will tell.
    assert len(runner.plan(recipe("darts-tiny"), tmp_path / "out")) == 2
    pytest.importorskip("nni")
    assert len(runner.plan(recipe("nni:nasbench201"), tmp_path / "out")) == 2


def test_a_stage_that_foresees_nothing_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STAGES, "_components", {name: STAGES.get(name) for name in STAGES.loaded()})

    @STAGES.register("knows-nothing")
    class KnowsNothing(Stage):
        makes = "network"

        def run(self, inputs: Any, context: Context) -> Outcome:
            raise AssertionError("a plan runs nothing")

    recipe = recipe_of(stage("other", "knows-nothing"), taught("attention", teacher="other"))
    assert len(runner.plan(recipe, tmp_path / "out")) == 2


def test_a_model_that_returns_other_logits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_components", {name: MODELS.get(name) for name in MODELS.loaded()})

    @MODELS.register("eleven")
    class Eleven(MODELS.get("mlp")):  # type: ignore[misc]
        def build(self, shape: Shape, classes: int) -> Any:
            return super().build(shape, 11)

    told = refusal(recipe_of(TEACHER, stage("net", "train", model="eleven")), tmp_path / "out")
    assert told.startswith("wrong.yaml:5: stages.net.model: the model 'eleven' (")
    assert "must return logits [N, 10], got [2, 11]" in told


def test_what_a_growth_finds_is_judged_before_anything_trains_on_it(tmp_path: Path) -> None:
    grown = stage("grown", "grow-teacher", student=SMALL, method={"name": "uniform", "tolerance": 0.2})
    wrong = taught({"name": "attention", "pairs": [["nope", "nope"]]}, student=SMALL)
    recipe = recipe_of(grown, stage("teacher", "train", model="grown"), wrong)
    assert len(runner.plan(recipe, tmp_path / "out")) == 3
    with pytest.raises(UserError, match=r"^wrong\.yaml:6: stages\.student\.objectives: .* has no module 'nope'"):
        runner.run(recipe, tmp_path / "out", "nasdistill run wrong.yaml")
    assert [path.parent.name.rpartition("-")[0] for path in (tmp_path / "out").rglob(MANIFEST)] == ["grown"]


def test_a_growth_that_comes_near_no_ratio_is_named_with_its_place(tmp_path: Path) -> None:
    recipe = recipe_of(
        stage("grown", "grow-teacher", student=SMALL, method={"name": "uniform", "tolerance": 1e-4}, ratio=1.01)
    )
    with pytest.raises(UserError, match=r"^wrong\.yaml:4: stages\.grown\.ratio: .* cannot reach 1\.01 times"):
        runner.run(recipe, tmp_path / "out", "nasdistill run wrong.yaml")


def test_what_may_yet_be_left_out_is_not_judged(tmp_path: Path) -> None:
    wrong = taught("attention", better_than=["teacher"])
    other = stage("other", "ensemble", networks=["teacher", "student"])
    assert len(runner.plan(recipe_of(TEACHER, wrong, other), tmp_path / "out")) == 3


def test_only_what_is_to_do_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(stage("alone", "train", model="mlp-8"))
    runner.run(recipe, tmp_path / "out", "nasdistill run right.yaml")

    def never(*_given: Any) -> None:
        raise AssertionError("all is done")

    monkeypatch.setattr(STAGES.get("train"), "foresee", never)
    assert [row.cached for row in runner.run(recipe, tmp_path / "out", "nasdistill run right.yaml").rows] == [True]


IMAGES = {
    "cifar10": (3, 32, 32),
    "image-folder": (3, 64, 64),
    "synthetic-tones": (1, 1, 1024),
    "wav-folder": (1, 1, 8000),
    "texts": (1, 1, 50),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in resources.recipes().glob("*.yaml")))
def test_every_recipe_that_comes_along_has_a_plan(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(name)
    kind = type(recipe.settings.data)
    words = Words(("<padding>", "<unknown>", "a"), 3) if kind.registered_name == "texts" else None
    dtype = torch.int32 if words else torch.uint8
    number = 2500 if "images_per_class" in (resources.recipes() / f"{name}.yaml").read_text() else 40
    images = torch.zeros(number, *IMAGES.get(kind.registered_name, (1, 28, 28)), dtype=dtype)
    part = ImageSet(images, torch.arange(number) % 10)
    monkeypatch.setattr(kind, "fingerprint", lambda _self: "black images")
    monkeypatch.setattr(kind, "read", lambda _self: RawData(part, part, tuple("abcdefghij"), words=words))
    without_weights = {
        "photos": {"arch", "plain", "plain-product"},
        "photos-compared": {"wrn-arch", "wrn", "resnet-arch", "resnet", "mobilenet"},
        "photos-quick": {"arch", "plain", "plain-product"},
    }.get(name, set(recipe.stages))
    assert {each.name for each in runner.plan(recipe, tmp_path / "out")} == without_weights


def test_a_network_that_computes_otherwise_in_training_is_not_quantised(tmp_path: Path) -> None:
    def quantised(model: str) -> Recipe:
        given = stage("given", "train", model=model)
        return recipe_of(given, stage("rounded", "quantise", student="given", teacher="given"))

    runner.plan(quantised("mixer-24-2"), tmp_path)
    with pytest.raises(UserError, match=r"rounded\.student: the network computes other layers and sums in training"):
        runner.plan(quantised("vit-24-2"), tmp_path)


@pytest.mark.parametrize(("fooling", "told"), [("published", 1), ("non-saturating", 0)])
def test_what_an_objective_has_to_say_beforehand_is_told_once_by_the_plan(
    fooling: str, told: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = stage("teacher", "train", model="mlp-8")
    adversarial = {"name": "adversarial", "fooling": fooling}
    runner.plan(recipe_of(teacher, taught(adversarial), data="{name: digits, limit: 200}\nseeds: [0, 1]"), tmp_path)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == told
    assert all(warning.startswith("student: the adversarial loss `fooling: published`") for warning in warnings)
