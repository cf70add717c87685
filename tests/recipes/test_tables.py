"""The recipes of the tables: which networks meet, that each pair can be bound, and that tiny forms run."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdistill.distill.taps import output_shapes
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run
from nasdistill.registry import registry

KINDS = ("densenet", "wrn", "darts")
SHAPES = {"fashion-mnist-pairs": (1, 28, 28), "teacher-student-pairs": (3, 32, 32)}
MLPS = {
    "mnist": ("1200-1200", "800-800"),
    "notmnist": ("1200-1200-1200", "800-800-800"),
    "svhn": ("4096-4096", "3072-3072"),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("teacher", KINDS)
@pytest.mark.parametrize("student", KINDS)
def test_each_of_the_nine_pairs_meets_at_three_resolutions(name: str, student: str, teacher: str) -> None:
    stages = {stage: settings.model_dump() for stage, settings in load_recipe(name).stages.items()}
    stage, shape = stages[f"{student}-from-{teacher}"], SHAPES[name]
    assert stage["teacher"] == f"{teacher}-teacher"
    assert stage["student"] == stages[f"{student}-alone"]["model"]
    assert stages[f"{teacher}-teacher"]["model"].startswith(teacher)
    (attention,) = load_recipe(name).stages[f"{student}-from-{teacher}"].objectives  # type: ignore[attr-defined]
    models = stage["student"], stages[stage["teacher"]]["model"]
    nets = [registry("models").parse(model).build(shape, 10) for model in models]
    term = attention.bind(*nets, shape)
    sides = [
        [output_shapes(net, points, shape, "network")[point][1:] for point in points]
        for net, points in zip(nets, (term.student_points, term.teacher_points), strict=True)
    ]
    height = shape[1]
    assert sides[0] == sides[1] == [(height, height), (height // 2, height // 2), (height // 4, height // 4)]


def test_grown_teachers_teach_the_student_of_the_pairs() -> None:
    pairs, bespoke = (
        {stage: settings.model_dump() for stage, settings in load_recipe(name).stages.items()}
        for name in ("fashion-mnist-pairs", "fashion-mnist-bespoke")
    )
    assert bespoke["alone"] == pairs["darts-alone"]
    assert bespoke["fisher-arch"]["method"]["per"] == "top-channel"
    for method in ("depth", "uniform", "fisher", "random"):
        assert bespoke[f"{method}-arch"]["ratio"] == 2.0
        assert bespoke[f"{method}-teacher"]["model"] == f"{method}-arch"
        assert {**bespoke[f"from-{method}"], "teacher": "darts-teacher"} == pairs["darts-from-darts"]


@pytest.mark.parametrize(
    ("name", "alone", "taught"),
    [("bespoke-teachers", "alone", "from-fisher")]
    + [("teacher-student-pairs", f"{kind}-alone", f"{kind}-from-wrn") for kind in KINDS],
)
def test_the_student_alone_shows_the_maps_that_attention_reads_of_the_taught_one(
    name: str, alone: str, taught: str
) -> None:
    stages = {stage: settings.model_dump() for stage, settings in load_recipe(name).stages.items()}
    (attention,) = stages[taught]["objectives"]
    assert stages[alone]["show_points"] == [pair[0] for pair in attention["pairs"]]


@pytest.mark.parametrize(("data", "hidden"), MLPS.items())
def test_small_networks_have_the_reports_sizes_and_one_start(data: str, hidden: tuple[str, str]) -> None:
    stages = {stage: settings.model_dump() for stage, settings in load_recipe(f"small-networks-{data}").stages.items()}
    assert [stages[stage]["model"] for stage in ("teacher", "start")] == [f"mlp-{units}" for units in hidden]
    assert stages["without"]["model"] == stages["kd"]["student"] == stages["adversarial"]["student"] == "start"
    assert stages["without"]["epochs"] == stages["kd"]["epochs"] == stages["adversarial"]["epochs"]


@pytest.mark.parametrize("name", ["teacher-student-pairs", "bespoke-teachers"])
def test_the_schedule_is_that_of_report_004(name: str) -> None:
    """0.1, times 0.2 after 60, 120 and 160 of 200 epochs (facts of the report)."""
    trained = [settings for settings in load_recipe(name).stages.values() if hasattr(settings, "learning_rate")]
    assert len(trained) == {"teacher-student-pairs": 15, "bespoke-teachers": 9}[name]
    for settings in trained:
        rates = [settings.learning_rate(epoch, 1) for epoch in range(200)]
        assert rates == pytest.approx([0.1] * 60 + [0.02] * 60 + [0.004] * 40 + [0.0008] * 40)
        given = settings.model_dump()
        assert (given["epochs"], given["batch_size"], given["optimizer"]["weight_decay"]) == (200, 64, 5e-4)


TINY = {
    "small-networks-mnist": [
        "seeds=[0]",
        "stages.teacher.model=mlp-32",
        "stages.start.model=mlp-16",
        "stages.adversarial.objectives.0.steps=20",
    ],
    # In float32: a ResNet-18's maps of 8x8 images are single places, where oneDNN's bf16 gradients are now and then
    # not finite (plain torch 2.15 without any of this package shows it).
    "torchvision-teacher": [
        "seeds=[0]",
        "engine.precision=32",
        "stages.alone.model=wrn-10-1",
        "stages.student.student=wrn-10-1",
    ],
    "shrunk-fashion-mnist": ["seeds=[0]", "engine.precision=32", "stages.large.model=wrn-10-1"],
}


@pytest.mark.parametrize("name", [*TINY, pytest.param("digits-fisher", marks=pytest.mark.slow)])
def test_a_tiny_form_runs(name: str, tmp_path: Path) -> None:
    stages = list(load_recipe(name).stages)
    tiny = [
        "data={name: digits, limit: 200}",
        *TINY.get(name, ["seeds=[0]"]),
        *(f"stages.{stage}.epochs=1" for stage in stages if "arch" not in stage and "half" not in stage),
    ]
    recipe = load_recipe(name, [*tiny, "engine.accelerator=cpu"])
    record = run(recipe, tmp_path / "out", f"nasdistill run {name}")
    assert [row.stage for row in record.rows] == stages
