"""The section of a search's trials: what is read, drawn and told."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasdistill.errors import DamagedFile
from nasdistill.report import payloads, trial_axes
from nasdistill.report.parts import Part
from nasdistill.report.records import RunRecord
from nasdistill.report.sections import sections, trials
from nasdistill.report.sections.trials import SearchTrials
from nasdistill.report.summaries import by_stage
from nasdistill.storage import write_json
from tests.report.fakes import fake_run, resealed
from tests.report.test_page import HOSTILE, assert_asks_for_nothing, page_of
from tests.report.test_plots import curve_points, parsed, texts_of


def trial(score: float | None, parameters: int = 1000, **options: Any) -> dict[str, Any]:
    curve = [] if score is None else [score / 2, score]
    chosen = {"operation": "skip", "states": [0, 1], "fixed": 3}
    return {
        "score": score, "parameters": parameters, "curve": curve, "stopped": None, "like": None, "too_large": 0,
        "chosen": chosen, **options,
    }  # fmt: skip


CONTENT = {
    "score": "accuracy",
    "best": 2,
    "trials": [
        trial(60.0),
        trial(None, stopped="diverged"),
        trial(80.0, 2000, chosen={"operation": "sep_conv", "states": [0, 2], "fixed": 3}),
        trial(80.0, 2000, like=2, chosen={"operation": "sep_conv", "states": [0, 2], "fixed": 3}),
        trial(40.0, 1500, curve=[40.0], stopped="below the median of the trials before"),
    ],
}


def found(content: Any = CONTENT) -> SearchTrials:
    return SearchTrials.model_validate(copy.deepcopy(content))


def changed(*path: str | int, to: Any) -> Any:
    content: Any = copy.deepcopy(CONTENT)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return content


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (changed("best", to=5), "the best trial must be one that has a score"),
        (changed("best", to=1), "the best trial must be one that has a score"),
        (changed("trials", to=[]), "at trials"),
        (changed("trials", 0, "score", to=61.0), "the score must be the best of the curve"),
        (changed("trials", 0, "curve", to=[60.0, 101.0]), r"at trials\.0\.curve\.1"),
        (changed("trials", 3, "like", to=3), "like an earlier one"),
        (changed("trials", 0, "parameters", to=-1), r"at trials\.0\.parameters"),
        (changed("trials", 0, "chosen", to={"operation": "skip"}), "choose for the same labels"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: Any, problem: str) -> None:
    (tmp_path / "trials.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=rf"trials\.json cannot be shown: .*{problem}"):
        payloads.read(SearchTrials, tmp_path)


def test_the_table_has_each_architecture_once_and_the_best_first() -> None:
    table = trials.table(found())
    assert table.header == ("trial", "accuracy %", "parameters", "epochs", "operation", "states")
    assert [[str(cell) for cell in row] for row in table.rows] == [
        ["2, found", "80.00", "2,000", "2", "sep_conv", "[0, 2]"],
        ["0", "60.00", "1,000", "2", "skip", "[0, 1]"],
        ["4", "40.00", "1,500", "1 (below the median of the trials before)", "skip", "[0, 1]"],
    ]


def test_many_trials_and_many_choices_are_cut() -> None:
    labels = {f"label {number}": number for number in range(9)}
    every = [trial(float(number), chosen=labels | {"label 0": number, "label 1": 5}) for number in range(30)]
    content = {"score": "balanced-accuracy", "best": 29, "trials": every}
    table = trials.table(found(content))
    assert table.header == ("trial", "balanced-accuracy %", "parameters", "epochs", "label 0")
    assert [str(row[0]) for row in table.rows] == ["29, found", *map(str, range(28, 19, -1))]
    for each in every:
        each["chosen"] = dict.fromkeys(labels, each["score"])
    assert trials.table(found(content)).header[-1] == "epochs"


def test_pictures_show_every_trial() -> None:
    progress, size, curves = map(parsed, trials.draw(found()))
    assert {"succeeded", "stopped early", "failed"} <= texts_of(progress)
    assert {"1,000", "2,000", "found", "trials"} <= texts_of(size)
    (best,) = curve_points(curves, "2.6")
    assert len(best) == 2
    one_epoch = {**CONTENT, "trials": [trial(50.0, curve=[50.0])], "best": 0}
    assert len(trials.draw(found(one_epoch))) == 2


def additive(noise: float) -> SearchTrials:
    """60 trials of three choices among two; the first gives 30 points, the second 10, the third nothing."""
    draw = random.Random(0)  # noqa: S311
    every = []
    for _ in range(60):
        chosen = {name: draw.randrange(2) for name in ("large", "small", "nothing")}
        score = 20 + (30 * chosen["large"] + 10 * chosen["small"]) * (noise == 0) + noise * draw.random()
        every.append(trial(score, chosen=chosen))
    best = max(range(60), key=lambda number: every[number]["score"])
    return found({"score": "accuracy", "best": best, "trials": every})


def test_the_importance_of_choices_is_their_share_of_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(trials.trial_plots, "bars", lambda shares, names: told.append((shares, names)) or "")
    assert trials.draw_importance(additive(noise=0)) is not None
    ((shares, names),) = told
    assert names == ["large", "small", "nothing"]
    # Of independent choices with equal halves the variances are 30²/4 and 10²/4.
    assert shares.alone == pytest.approx([0.9, 0.1, 0.0], abs=0.05)


def test_an_architecture_that_came_again_counts_once_for_importance(monkeypatch: pytest.MonkeyPatch) -> None:
    content = additive(noise=0).model_dump(mode="json")
    for each in content["trials"][12:]:
        each["like"] = 0
    told: list[tuple[Any, Any]] = []
    monkeypatch.setattr(trial_axes, "importance", lambda *given: told.append(given))
    trials.draw_importance(found(content))
    ((places, scores),) = told
    assert len(places) == 12
    assert scores == [each["score"] for each in content["trials"][:12]]


def test_of_noise_and_of_few_trials_no_importance_is_told() -> None:
    assert trials.draw_importance(additive(noise=50)) is None
    assert trials.draw_importance(found()) is None


def run_with_trials(out: Path, content: Any, seeds: tuple[int, ...] = (0,)) -> RunRecord:
    """A run of the search alone, as the pictures of other stages take their time."""
    record = fake_run(out, seeds)
    rows = tuple(row for row in record.rows if row.uses == "search")
    for row in rows:
        assert row.folder is not None
        for payload in row.folder.glob("*.json"):
            if payload.name != "artifact.json":
                payload.unlink()
        write_json(row.folder / "trials.json", content)
        resealed(row.folder)
    return replace(record, rows=rows)


def tried(record: RunRecord) -> Part | None:
    return next((each for each in sections(by_stage(record.rows)) if each.title == "Trials of the search"), None)


def test_the_section_has_a_group_per_seed(tmp_path: Path) -> None:
    section = tried(run_with_trials(tmp_path, CONTENT, seeds=(0, 1)))
    assert section is not None
    assert [(group.title, group.folded) for group in section.groups] == [
        ("student-arch, seed 0", False),
        ("student-arch, seed 1", True),
    ]
    assert not any(group.note for group in section.groups)


def test_what_mattered_is_explained_where_it_is_shown(tmp_path: Path) -> None:
    section = tried(run_with_trials(tmp_path, additive(noise=0).model_dump(mode="json")))
    assert section is not None
    assert [group.title for group in section.groups] == ["student-arch", "student-arch: importance of choices"]
    assert "random forest" in section.groups[1].note


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    for each in content["trials"]:
        each["chosen"] = {HOSTILE: [each["parameters"], HOSTILE]}
    record = run_with_trials(tmp_path / "run", content)
    page = page_of(replace(record, name="search"), tmp_path)
    assert_asks_for_nothing(page)
    assert "alert(1)" in page.reads
