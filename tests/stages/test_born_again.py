"""The stage `born-again` on the embedded digits: what it stands for, who teaches whom, and when it comes to an end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nasdistill.artifacts import Artifact, Manifest, open_artifact
from nasdistill.data.loaders import ImageBatches
from nasdistill.distill.task import Distillation
from nasdistill.errors import Interrupted, SpecError, UserError
from nasdistill.interrupts import polite_stops
from nasdistill.models.base import WEIGHTS, load_spec
from nasdistill.recipes.loading import Recipe, load_recipe
from nasdistill.recipes.runner import plan, run
from nasdistill.registry import build, registry
from nasdistill.report import page
from nasdistill.report.records import RunRecord
from nasdistill.stages import STAGES, Stage, distill
from nasdistill.stages.distill import Distill
from nasdistill.stages.ensemble import Ensemble
from nasdistill.stages.train import Train
from nasdistill.storage import read_json, sha256_of
from nasdistill.training.batches import Batch
from nasdistill.training.tasks import Task
from tests.stages.parts import few_digits, network_artifact, stop_in

RECIPE = """\
name: generations
data: {name: digits, limit: 200}
engine: {accelerator: cpu, precision: "32"}
checkpoint_seconds: 1.0e-9
stages:
  - name: ban
    uses: born-again
    with: {model: wrn-10-1, generations: 2, epochs: 2, batch_size: 64}
"""


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here reads a run's page, which takes longer to draw than all training."""
    monkeypatch.setattr(page, "write_report", lambda *_: None)


def parts_of(**options: Any) -> dict[str, Stage]:
    return dict(build(STAGES.get("born-again"), options).parts("ban"))


def recipe(folder: Path, *overrides: str) -> Recipe:
    file = folder / "generations.yaml"
    file.write_text(RECIPE)
    return load_recipe(str(file), overrides)


def ran(folder: Path, *overrides: str) -> RunRecord:
    return run(recipe(folder, *overrides), folder / "out", "nasdistill run generations.yaml")


def artifact(record: RunRecord, stage: str) -> Artifact:
    (folder,) = (row.folder for row in record.rows if row.stage == stage)
    assert folder is not None
    return open_artifact(folder)


def weights(record: RunRecord, stage: str) -> dict[str, torch.Tensor]:
    return load_file(artifact(record, stage).folder / WEIGHTS)


# What it stands for


def test_a_generation_is_taught_by_the_one_before() -> None:
    parts = parts_of(model="wrn-10-1", generations=3)
    assert list(parts) == ["ban-0", "ban-1", "ban-2", "ban-3", "ban"]
    assert isinstance(parts["ban-0"], Train)
    for number in (1, 2, 3):
        student = parts[f"ban-{number}"]
        assert isinstance(student, Distill)
        assert (student.student, student.teacher) == ("wrn-10-1", f"ban-{number - 1}")
        assert [objective.registered_name for objective in student.objectives] == ["ban"]
        assert student.fresh
    whole = parts["ban"]
    assert isinstance(whole, Ensemble)
    assert (whole.networks, whole.beside) == (["ban-1", "ban-2", "ban-3"], ["ban-0"])


def test_every_generation_draws_anew() -> None:
    parts = parts_of(model="wrn-10-1", generations=3, replicate=4)
    assert [parts[f"ban-{number}"].replicate for number in range(4)] == [4, 5, 6, 7]  # type: ignore[attr-defined]


def test_all_before_can_teach_together() -> None:
    parts = parts_of(model="wrn-10-1", generations=3, taught_by="all", average="logits")
    teachers = [parts[f"ban-{number}"].teacher for number in (1, 2, 3)]  # type: ignore[attr-defined]
    assert teachers == ["ban-0", ["ban-0", "ban-1"], ["ban-0", "ban-1", "ban-2"]]
    assert {parts[name].average for name in ("ban-1", "ban-3", "ban")} == {"logits"}  # type: ignore[attr-defined]


def test_generations_can_be_of_different_kinds() -> None:
    models = ["wrn-10-1", {"name": "densenet", "depth": 10, "growth": 4}]
    parts = parts_of(model=models, generations=2)
    assert parts["ban-0"].model == "wrn-10-1"  # type: ignore[attr-defined]
    assert [parts[f"ban-{number}"].student for number in (1, 2)] == models  # type: ignore[attr-defined]


def test_a_given_teacher_is_not_trained_and_lends_its_architecture() -> None:
    parts = parts_of(teacher="given", generations=2)
    assert list(parts) == ["ban-1", "ban-2", "ban"]
    first, second = parts["ban-1"], parts["ban-2"]
    assert isinstance(first, Distill)
    assert isinstance(second, Distill)
    assert (first.student, first.teacher) == ("given", "given")
    assert (second.student, second.teacher) == ("given", "ban-1")
    assert first.fresh  # or the first generation would begin as its teacher


def test_all_training_options_reach_all_generations() -> None:
    optimizer = {"name": "sgd", "lr": 0.3}
    options = {"epochs": 7, "batch_size": 50, "patience": 3, "balance": "sampling", "optimizer": optimizer}
    for name, part in parts_of(model="wrn-10-1", **options).items():
        if name != "ban":
            assert {option: part.model_dump()[option] for option in options} == {
                **options,
                "optimizer": registry("optimizers").parse(optimizer).spec(),
            }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [None] * 4),
        ({"patience": 5}, [5, 5, 5, 5]),
        ({"patience": [8, 12]}, [8, 12, 12, 12]),
        ({"patience": [None, 3, 4, 5]}, [None, 3, 4, 5]),
        ({"patience": [8, 12], "teacher": "given"}, [8, 12, 12]),
    ],
)
def test_each_network_may_have_a_patience_of_its_own(given: dict[str, Any], expected: list[int | None]) -> None:
    parts = parts_of(**{"model": "wrn-10-1", "generations": 3, **given})
    assert [part.patience for name, part in parts.items() if name != "ban"] == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize(("given", "first"), [({}, "ban-0"), ({"teacher": "given"}, "given")])
def test_the_teacher_can_be_a_member_of_the_ensemble(given: dict[str, Any], first: str) -> None:
    whole = parts_of(**{"model": "wrn-10-1", "generations": 2, "ensemble": "with-teacher", **given})["ban"]
    assert isinstance(whole, Ensemble)
    assert (whole.networks, whole.beside) == ([first, "ban-1", "ban-2"], [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"while_better": True}, [None, None, ["ban-0"], ["ban-0", "ban-1"]]),
        ({"while_better": True, "teacher": "given", "model": None}, [None, None, ["ban-1"]]),
        ({}, [None, None, None, None]),
    ],
)
def test_each_generation_asks_that_the_one_before_was_the_best_so_far(
    given: dict[str, Any], expected: list[list[str] | None]
) -> None:
    parts = parts_of(**{"model": "wrn-10-1", "generations": 3, **given})
    assert [getattr(part, "better_than", None) for name, part in parts.items() if name != "ban"] == expected


@pytest.mark.parametrize(
    ("options", "path", "sentence"),
    [
        ({}, ("model",), "give a model such as wrn-28-1, or a trained teacher"),
        ({"model": ["wrn-10-1", "wrn-10-2"]}, ("model",), "2 model(s) for 3 generation(s)"),
        ({"model": "wrn-10-1", "generations": 0}, ("generations",), "greater than 0"),
        ({"model": "wrn-10-1", "objectives": ["bann"]}, ("objectives", 0), "did you mean 'ban'?"),
        ({"model": "wrn-10-1", "patience": [8, 0]}, ("patience", 1), "greater than 0"),
        ({"model": "wrn-10-1", "patience": [8, 9, 9, 9, 9]}, ("patience",), "5 numbers for 4 network(s) to train"),
        ({"model": "wrn-10-1", "ensemble": "all"}, ("ensemble",), "'generations' or 'with-teacher'"),
        ({"model": "wrn-10-1", "taught_by": "next"}, ("taught_by",), "'previous' or 'all'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], path: tuple[str | int, ...], sentence: str) -> None:
    with pytest.raises(SpecError) as error:
        parts_of(**options)
    assert error.value.path == path
    assert sentence in error.value.problem


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("stages.ban.model=wrn-11-1", "the nearest depths are 10 and 16"),
        ("stages.ban.model=[wrn-10-1, wrnn-10-1]", "did you mean"),
        ("stages.ban.teacher=missing", "'missing'"),
        ("stages.ban.objectives=[{name: ban, warmup: 3}]", "the warm-up of 3 epochs exceeds `epochs: 2`"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(tmp_path: Path, override: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        recipe(tmp_path, override)
    assert sentence in str(error.value)
    assert override in str(error.value)


# What comes of it


def test_every_generation_is_a_network_of_its_own(tmp_path: Path) -> None:
    record = ran(tmp_path)
    assert [(row.stage, row.uses) for row in record.rows] == [
        *(("ban-0", "train"), ("ban-1", "distill"), ("ban-2", "distill"), ("ban", "ensemble"))
    ]
    for number in (1, 2):
        student = artifact(record, f"ban-{number}")
        assert student.manifest.inputs["teacher"] == artifact(record, f"ban-{number - 1}").content
        assert "better_than" not in student.manifest.inputs
    together = weights(record, "ban")
    for number in (1, 2):
        for name, value in weights(record, f"ban-{number}").items():
            torch.testing.assert_close(together[f"members.{number - 1}.{name}"], value, rtol=0, atol=0)
    # The last row is a network like any other.
    assert artifact(record, "ban").kind == "network"
    assert load_spec(artifact(record, "ban").folder).model.registered_name == "ensemble"


def test_every_generation_begins_with_weights_and_an_order_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[torch.Tensor, list[int]]] = []
    epoch = ImageBatches.epoch
    begin = Task.begin_epoch

    def noted(self: Task, number: int, epochs: int) -> None:
        if number == 0:
            begun.append((self.network.get_parameter("stem.weight").detach().clone(), []))
        begin(self, number, epochs)

    def listed(self: ImageBatches, number: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        for batch in epoch(self, number, start, stop):
            if self.batch_size == 64:
                begun[-1][1].extend(batch.indices.tolist())
            yield batch

    monkeypatch.setattr(Task, "begin_epoch", noted)
    monkeypatch.setattr(ImageBatches, "epoch", listed)
    ran(tmp_path, "stages.ban.epochs=1")
    first, second, third = begun
    for one, other in ((first, second), (first, third), (second, third)):
        # of independent draws hardly any weight lies within a thousandth of its deviation of the other's
        assert torch.isclose(one[0], other[0], rtol=0, atol=1e-3 * float(one[0].std())).float().mean() < 0.05
        assert one[1] != other[1]
        assert sorted(one[1]) == sorted(other[1])


def test_generations_are_selected_by_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another split would hand a student validation images that its teacher was trained on."""
    seen: list[torch.Tensor] = []
    score = Task.score

    def noted(self: Task, network: Any, validation: ImageBatches, *rest: Any) -> dict[str, float]:
        seen.append(next(validation.epoch(0)).images)
        return score(self, network, validation, *rest)

    monkeypatch.setattr(Task, "score", noted)
    ran(tmp_path)
    assert len(seen) == 3 * 2
    assert all(torch.equal(images, seen[0]) for images in seen)


def test_more_generations_repeat_none(tmp_path: Path) -> None:
    before = {row.stage: row.content for row in ran(tmp_path).rows}
    record = ran(tmp_path, "stages.ban.generations=4")
    assert [row.stage for row in record.rows if not row.cached] == ["ban-3", "ban-4", "ban"]
    assert {row.stage: row.content for row in record.rows if row.cached} == {
        name: before[name] for name in ("ban-0", "ban-1", "ban-2")
    }


def test_it_ends_where_a_generation_is_no_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generations 1, 2 and 3 are made to score 60, 70 and 65 on validation images, their teacher 50."""
    given = {"ban-0": 50.0, "ban-1": 60.0, "ban-2": 70.0, "ban-3": 65.0}
    _validation_scores(monkeypatch, given)
    record = ran(tmp_path, "stages.ban.generations=5", "stages.ban.while_better=true")
    assert [row.stage for row in record.rows] == ["ban-0", "ban-1", "ban-2", "ban-3", "ban"]
    assert [(one.stage, one.reason) for one in record.left_out] == [
        ("ban-4", "'ban-3' with 65.00 on the validation images is not better than 'ban-2' with 70.00"),
        ("ban-5", "'ban-4', which it reads, was left out"),
    ]
    names = {name.split(".")[1] for name in weights(record, "ban") if name.startswith("members.")}
    assert names == {"0", "1", "2"}
    # What the condition let through is what runs without it.
    again = ran(tmp_path, "stages.ban.generations=3")
    assert all(row.cached for row in again.rows)


def test_a_tie_in_accuracy_goes_to_the_lower_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _validation_scores(monkeypatch, {"ban-0": 60.0, "ban-1": 60.0}, losses={"ban-0": 1.0, "ban-1": 0.9})
    assert not ran(tmp_path, "stages.ban.while_better=true").left_out


def test_where_the_loss_selects_it_decides_what_is_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"ban-0": 0.5, "ban-1": 0.6, "ban-2": 0.7}
    _validation_scores(monkeypatch, {"ban-0": 50.0, "ban-1": 60.0, "ban-2": 70.0}, losses)
    record = ran(tmp_path, "stages.ban.while_better=true", "stages.ban.select=loss")
    reason = "'ban-1' with a loss of 0.6 on the validation images is not below 0.5 of 'ban-0'"
    assert [(one.stage, one.reason) for one in record.left_out] == [("ban-2", reason)]


def test_scores_of_two_kinds_are_not_compared() -> None:
    def scored(**more: str) -> SimpleNamespace:
        return SimpleNamespace(manifest=SimpleNamespace(metrics={"validation": {"score": 90.0, "loss": 1.0, **more}}))

    stage = build(STAGES.get("distill"), {"student": "mlp-8", "teacher": "second", "better_than": ["first"]})
    inputs: Any = {"teacher": scored(of="balanced accuracy"), ("better_than", 0): scored()}
    with pytest.raises(SpecError, match="its score is the accuracy, that of 'second' the balanced accuracy"):
        stage.reason_to_leave_out(inputs)


def test_a_given_teacher_need_not_be_beaten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have seen the validation images, and an imported network has no score at all."""
    given = network_artifact(tmp_path / "given", few_digits(), "wrn-10-1")
    options = (f"stages.ban.teacher={given.folder}", "stages.ban.model=null", "stages.ban.while_better=true")
    record = ran(tmp_path, *options)
    assert [row.stage for row in record.rows] == ["ban-1", "ban-2", "ban"]
    assert artifact(record, "ban-1").manifest.inputs["teacher"] == given.content
    assert load_spec(artifact(record, "ban-1").folder).model == load_spec(given.folder).model


def test_a_killed_generation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the second epoch of the second generation: the same bits as unbroken, and no step taken twice."""
    whole = ran(tmp_path)
    steps_of_both = 2 * 2 * 3  # generations, epochs, batches of 64 from 180 images
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    with monkeypatch.context() as patched:
        taken = stop_in(patched, Distillation, step=6 + 4)
        with polite_stops(), pytest.raises(Interrupted, match="stage 'ban-2'"):
            ran(pieces)
        assert taken["steps"] == 10
        work = [path for path in (pieces / "out" / "work").iterdir() if path.is_dir()]
        assert [folder.name.rpartition("-")[0] for folder in work] == ["ban-2"]
        resumed = ran(pieces)
        assert taken["steps"] == steps_of_both
    for name in ("ban-1", "ban-2", "ban"):
        one, other = (sha256_of(artifact(record, name).folder / WEIGHTS) for record in (whole, resumed))
        assert one == other, name


def test_a_generation_stops_early_and_keeps_its_best_weights(tmp_path: Path) -> None:
    record = ran(tmp_path, "stages.ban.generations=1", "stages.ban.epochs=40", "stages.ban.patience=1")
    for name in ("ban-0", "ban-1"):
        found = artifact(record, name)
        metrics = found.manifest.metrics
        curves = _curves(found)
        best = max(range(len(curves["validation/accuracy"])), key=lambda at: _rank(curves, at))
        assert metrics["best_epoch"] == curves["validation/accuracy"][best][0]
        assert metrics["validation"]["score"] == curves["validation/accuracy"][best][1]
        assert metrics["accuracy"]["selected"] == curves["test/accuracy"][best][1]
        assert metrics["stopped"] == "1 evaluations without a better validation score"
        assert len(curves["validation/accuracy"]) == metrics["best_epoch"] + 1 < 40


def test_the_plan_shows_every_generation(tmp_path: Path) -> None:
    planned = plan(recipe(tmp_path), tmp_path / "out")
    assert [(stage.name, dict(stage.inputs)) for stage in planned] == [
        ("ban-0", {}),
        ("ban-1", {"teacher": "ban-0"}),
        ("ban-2", {"teacher": "ban-1"}),
        ("ban", {"networks.0": "ban-1", "networks.1": "ban-2", "beside.0": "ban-0"}),
    ]


def _validation_scores(
    monkeypatch: pytest.MonkeyPatch, scores: dict[str, float], losses: dict[str, float] | None = None
) -> None:
    """Give the artifacts of these stages other scores on the validation images, where conditions read them."""
    true = distill.validation_score

    def given(inputs: dict[str, Artifact], field: str) -> tuple[float, float, str]:
        manifest: Manifest = inputs[field].manifest
        return scores[manifest.stage], -(losses or {}).get(manifest.stage, 1.0), true(inputs, field)[2]

    monkeypatch.setattr(distill, "validation_score", given)


def _curves(found: Artifact) -> dict[str, list[list[float]]]:
    curves: dict[str, list[list[float]]] = read_json(found.folder / "history.json")["curves"]
    return curves


def _rank(curves: dict[str, list[list[float]]], at: int) -> tuple[float, float]:
    return curves["validation/accuracy"][at][1], -curves["validation/loss"][at][1]
