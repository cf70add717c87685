"""The outcome of an experiment: kept and read again, as tables, on its page."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from nasdistill.errors import DamagedFile, UserError
from nasdistill.report import tables, trial_tables
from nasdistill.report.experiments import Trial, load_experiment, save_experiment, write_experiment
from tests.report.fake_experiments import BETA, EPOCHS, OPTIMISER, fake_experiment


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
    assert [cell.text for cell in first[:3]] == (["3, best", "40", "60"] if higher else ["1, best", "20", "40"])


def test_the_table_for_people() -> None:
    experiment = fake_experiment(5)
    table = trial_tables.trials(experiment)
    assert table.header[:2] == ("trial", BETA)
    assert table.header[-6:] == ("score", *(f"accuracy %, {kind}" for kind in ("selected", "last", "best")),
                                 "parameters", "time")  # fmt: skip
    named = {row[0].text: row for row in table.rows}
    assert list(named) == ["2, best", "1", "0", "4, stopped early", "3, failed"]
    score, *rest = (cell.text for cell in named["4, stopped early"][-6:])
    assert float(score) == pytest.approx(experiment.trials[4].intermediate[-1], abs=1e-4)
    assert rest == [*["\N{EN DASH}"] * 4, "31 s"]
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
