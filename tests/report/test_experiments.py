"""The outcome of an experiment: kept and read again, as tables, on its page."""

from __future__ import annotations

import csv
import io
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nasdistill.errors import DamagedFile, UserError
from nasdistill.report import tables, trial_plots, trial_tables
from nasdistill.report.experiment_page import write_experiment
from nasdistill.report.experiments import Experiment, Trial, load_experiment, save_experiment
from nasdistill.report.importance import Importance
from tests.report.fake_experiments import BETA, EPOCHS, OPTIMISER, fake_experiment
from tests.report.test_page import HOSTILE, Page, assert_asks_for_nothing


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    experiment = fake_experiment(12)
    save_experiment(experiment, tmp_path)
    assert load_experiment(tmp_path) == experiment
    text = (tmp_path / "experiment.json").read_text()
    (tmp_path / "experiment.json").write_text(text.replace("stopped early", "succeeded"))
    with pytest.raises(DamagedFile, match=r"experiment\.json is damaged"):
        load_experiment(tmp_path)


def test_a_folder_that_is_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not an experiment: there is no such folder"):
        load_experiment(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no experiment\.json \(it is written when an experiment ends\)"):
        load_experiment(tmp_path)


@pytest.mark.parametrize(("higher", "order"), [(True, [3, 0, 1, 5, 4, 2, 6]), (False, [1, 0, 3, 4, 5, 2, 6])])
def test_the_best_come_first_and_those_without_a_score_last(higher: bool, order: list[int]) -> None:
    trials = (
        Trial(0, {BETA: 10.0}, "succeeded", 50.0),
        Trial(1, {BETA: 20.0}, "succeeded", 40.0),
        Trial(2, {BETA: 30.0}, "running", None),
        Trial(3, {BETA: 40.0}, "succeeded", 60.0),
        Trial(4, {BETA: 50.0}, "stopped early", 70.0),
        Trial(5, {BETA: 60.0}, "stopped early", 80.0),
        Trial(6, {BETA: 70.0}, "failed", None, problem="no memory"),
    )
    experiment = replace(
        fake_experiment(0, keys=1), trials=trials, best=3 if higher else 1, higher_is_better=higher
    )  # fmt: skip
    assert [trial.number for trial in trial_tables.ranked(experiment)] == order
    first = trial_tables.trials(experiment).rows[0]
    assert [cell.text for cell in first[:3]] == (
        ["3, best", "60.0000", "40"] if higher else ["1, best", "40.0000", "20"]
    )


def test_of_equal_scores_the_best_stands_first() -> None:
    trials = tuple(Trial(number, {BETA: 10.0}, "succeeded", 50.0) for number in range(3))
    experiment = replace(fake_experiment(0, keys=1), trials=trials, best=1)
    assert [trial.number for trial in trial_tables.ranked(experiment)] == [1, 0, 2]


def test_equal_scores_are_told_and_without_any_score_nothing_is_drawn(tmp_path: Path) -> None:
    def told(*scores: float | None, best: int | None) -> str:
        trials = tuple(
            Trial(number, {BETA: 10.0 + number}, "failed" if score is None else "succeeded", score)
            for number, score in enumerate(scores)
        )
        write_experiment(replace(fake_experiment(0, keys=1), trials=trials, best=best), tmp_path)
        return (tmp_path / "trials.md").read_text() + (tmp_path / "report.html").read_text()

    assert "Of equal scores (2 has it too) the first counts." in told(40.0, 50.0, 50.0, best=1)
    assert "Of equal scores (1, 2 have it too) the first counts." in told(50.0, 50.0, 50.0, best=0)
    some = told(40.0, 50.0, None, best=1)
    assert "Of equal scores" not in some
    assert "Values and scores" in some
    assert "Values and scores" not in told(None, None, best=None)


def test_the_table_for_people() -> None:
    experiment = fake_experiment(5)
    table = trial_tables.trials(experiment)
    assert table.header[:3] == ("trial", "score", BETA)
    assert table.header[-5:] == (*(f"accuracy %, {kind}" for kind in ("selected", "last", "best")),
                                 "parameters", "time")  # fmt: skip
    named = {row[0].text: row for row in table.rows}
    assert list(named) == ["2, best", "1", "0", "4, stopped early", "3, failed"]
    stopped = [cell.text for cell in named["4, stopped early"]]
    assert float(stopped[1]) == pytest.approx(experiment.trials[4].intermediate[-1], abs=1e-4)
    assert stopped[-5:] == [*["\N{EN DASH}"] * 4, "31 s"]
    assert named["1"][table.header.index(BETA)].text == "100.71"
    assert named["1"][table.header.index(OPTIMISER)].text == "{name: adam}"
    failures = trial_tables.failures(experiment)
    assert failures is not None
    assert [row[0].text for row in failures.rows] == ["3"]
    assert failures.rows[0][1].text.startswith("training diverged")
    assert trial_tables.failures(fake_experiment(3)) is None


def test_the_table_for_programs_holds_every_number() -> None:
    experiment = fake_experiment(12)
    lines = list(csv.DictReader(io.StringIO(tables.to_csv(trial_tables.numbers(experiment)))))
    assert [int(line["trial"]) for line in lines] == list(range(12))
    for line, trial in zip(lines, experiment.trials, strict=True):
        assert float(line[BETA]) == trial.values[BETA]
        assert int(line[EPOCHS]) == trial.values[EPOCHS]
        assert (float(line["score"]) if line["score"] else None) == trial.score
        assert tuple(map(float, line["intermediate"].split())) == trial.intermediate
        assert line["accuracy_best"] == str(trial.accuracy.get("best", ""))
        assert (line["best"] == "1") == (trial.number == experiment.best)
        assert line["problem"] == (trial.problem or "")


def test_the_best_values_stand_to_the_last_digit(tmp_path: Path) -> None:
    experiment = fake_experiment(3, keys=1)
    assert experiment.best_trial is not None
    write_experiment(experiment, tmp_path)
    value = repr(experiment.best_trial.values[BETA])
    assert f"| {BETA} | {value} | loguniform(10, 3000) |" in (tmp_path / "trials.md").read_text()


def page_of(experiment: Experiment, folder: Path) -> Page:
    write_experiment(experiment, folder)
    page = Page(folder / "report.html")
    assert_asks_for_nothing(page)
    return page


def test_the_page_tells_the_whole_experiment(tmp_path: Path) -> None:
    experiment = fake_experiment(30, keys=3)
    assert experiment.best_trial is not None
    page = page_of(experiment, tmp_path)
    for words in (
        "18 of 30 trials succeeded; 6 stopped early, 6 failed", "1 h 10 min", "TPE, seed 0", "median stop", "nni 3.0",
        "validation score of student, %; the highest is best", repr(experiment.best_trial.values[BETA]),
        "loguniform(10, 3000)", "Failed trials", "training diverged", "nasdistill tune beta --vary",
        "name: beta seed: 0", "fitted to the 18 trials that succeeded",
        f"Trial {experiment.best} has the highest score of the trials that succeeded; its run is in trials/25.",
        f"{experiment.best_trial.accuracy['selected']:.1f} % test accuracy",
    ):  # fmt: skip
        assert words in page.reads, words
    assert re.search(r"have not seen, is 0\.[789]\d: 1 where it predicts their scores", page.reads)
    # parallel coordinates, the score over trials and over three settings, the curves, the importance
    assert page.count("svg") == 1 + 1 + 3 + 1 + 1
    assert page.count("table") == 3


@pytest.mark.parametrize(
    ("trials", "keys", "svgs", "told"),
    [
        (0, 6, 0, "No trial succeeded."),
        (1, 1, 0, "1 of 1 trials succeeded"),
        (3, 2, 1 + 1 + 2 + 1, "importance of settings needs 10 trials that succeeded; here are 3."),
        (30, 1, 1 + 1 + 1 + 1, "The score of a trial that was stopped early is the last that it reported."),
    ],
)
def test_few_trials_and_one_setting(trials: int, keys: int, svgs: int, told: str, tmp_path: Path) -> None:
    page = page_of(fake_experiment(trials, keys), tmp_path)
    assert told in page.reads
    assert page.count("svg") == svgs
    assert ("Importance of settings" in page.reads) == (trials > 1 and keys > 1)


def test_trials_that_wait_run_or_failed_alone(tmp_path: Path) -> None:
    trials = (
        Trial(0, {BETA: 10.0}, "failed", problem="no memory"),
        Trial(1, {BETA: 20.0}, "failed", problem="no memory"),
        Trial(2, {BETA: 30.0}, "running", intermediate=(40.0,)),
        Trial(3, {}, "waiting"),
    )
    page = page_of(replace(fake_experiment(0, keys=1), trials=trials, best=None, assessor=None), tmp_path)
    assert "0 of 4 trials succeeded; 1 running, 1 waiting, 2 failed" in page.reads
    assert page.reads.count("no memory") == 2
    assert "assessor" not in page.reads


def test_limits_and_a_front_have_their_words_their_column_and_their_picture(tmp_path: Path) -> None:
    def trial(number: int, score: float, latency: float, violated: tuple[str, ...] = ()) -> Trial:
        costs = {"latency_ms": latency, "parameters": 7.0}
        return Trial(number, {BETA: 10.0}, "succeeded", score, costs=costs, violated=violated)

    limits = ("parameters<=5",)
    trials = (trial(0, 80.0, 1.5), trial(1, 90.0, 5.0), trial(2, 70.0, 5.0), trial(3, 99.0, 1.0, limits))
    plain = replace(fake_experiment(0, keys=1), trials=trials, best=1, constraints=limits)
    fronted = replace(plain, objectives=("latency_ms",), front=(1, 0))

    page = page_of(fronted, tmp_path)

    assert (
        "No other trial beats one of these in score and latency_ms: 1, 0. The recipe of trial 1 is best-1.yaml"
        in page.reads
    )
    assert "Trial 1 has the highest score of the trials that keep the limits" in page.reads
    assert "It keeps parameters<=5." in page.reads
    drawn = (tmp_path / "report.html").read_text()
    assert "Score and latency ms" in drawn
    assert "mathdefault" not in drawn  # powers of ten as they are set in TeX
    names = [row[0].text for row in trial_tables.trials(fronted).rows]
    assert names == ["1, on the front", "0, on the front", "2", "3, not parameters<=5"]
    assert trial_tables.trials(fronted).header[-2:] == ("latency_ms", "time")
    assert "latency_ms" not in trial_tables.trials(plain).header
    assert list(csv.DictReader(io.StringIO((tmp_path / "trials.csv").read_text())))[1]["latency_ms"] == "5.0"
    none = replace(plain, trials=trials[3:], best=None)
    assert "No trial keeps parameters<=5." in page_of(none, tmp_path).reads


def test_scores_that_settings_do_not_explain_or_that_are_all_the_same(tmp_path: Path) -> None:
    experiment = fake_experiment(12, keys=2, troubles=False)
    # Neighbours in the one setting that varies differ most: unseen trials are told worse than by the mean.
    trials = [
        Trial(number, {**experiment.trials[0].values, BETA: 10.0 + number}, "succeeded", float(number % 2))
        for number in range(12)
    ]
    page = page_of(replace(experiment, trials=tuple(trials), best=1), tmp_path)
    assert "So it does not predict how the score depends on the settings." in page.reads
    assert "share of the variance" not in page.reads
    same = tuple(replace(trial, score=5.0) for trial in experiment.trials)
    assert "All trials have the same score." in page_of(replace(experiment, trials=same, best=0), tmp_path).reads


def test_where_the_lowest_score_is_best_the_page_says_so(tmp_path: Path) -> None:
    trial = Trial(0, {BETA: 10.0}, "succeeded", 0.25)
    experiment = replace(fake_experiment(0, keys=1), trials=(trial,), best=0, higher_is_better=False, metric="loss")
    page = page_of(experiment, tmp_path)
    assert "loss; the lowest is best" in page.reads
    assert "Trial 0 has the lowest score of the trials that succeeded." in page.reads


def test_the_importance_of_a_setting_is_its_share_of_the_variance_on_its_own_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)  # noqa: S311
    linear = "stages.student.objectives.0.temperature"
    trials = []
    for number in range(200):
        places = draw.random(), draw.random()
        score = 3 * places[0] + places[1] if number % 4 else 9.0  # variances 9/12 and 1/12
        values = {BETA: 10 * 300 ** places[0], linear: 1 + 19 * places[1]}
        trials.append(Trial(number, values, "succeeded" if number % 4 else "stopped early", score))
    told: list[tuple[Importance, list[str]]] = []
    monkeypatch.setattr(trial_plots, "bars", lambda found, names: told.append((found, names)) or "")
    for name in ("parallel", "progress", "over"):
        monkeypatch.setattr(trial_plots, name, lambda *_: "")
    write_experiment(replace(fake_experiment(0, keys=2), trials=tuple(trials), best=1), tmp_path)
    ((found, names),) = told
    assert names == [BETA, linear]
    assert found.alone == pytest.approx((0.9, 0.1), abs=0.05)


def test_words_with_markup_are_inert(tmp_path: Path) -> None:
    experiment = fake_experiment(12, keys=2)
    key = next(iter(experiment.varied))

    def spoilt(trial: Trial) -> Trial:
        return replace(trial, values={**trial.values, HOSTILE: HOSTILE}, folder=HOSTILE, problem=HOSTILE)

    hostile = replace(
        experiment, name=HOSTILE, recipe=HOSTILE, command=HOSTILE, metric=HOSTILE, tuner=HOSTILE, assessor=HOSTILE,
        versions={HOSTILE: HOSTILE}, device=HOSTILE, started=HOSTILE, varied={HOSTILE: HOSTILE, key: "a"},
        scales={HOSTILE: "choice", key: "log"}, trials=tuple(map(spoilt, experiment.trials)),
    )  # fmt: skip
    page = page_of(hostile, tmp_path)
    assert page.reads.count("<script>alert(1)</script><img") > 10
    assert "{{ 7*7 }}" in page.reads
    assert "<script>" not in (tmp_path / "trials.md").read_text()
