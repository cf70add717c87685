"""Pictures of trials: what stands where, and that nothing of a trial is lost."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nasdistill.report import plots, trial_plots
from nasdistill.report.experiments import Experiment, Trial
from nasdistill.report.importance import Importance
from tests.report.fake_experiments import BETA, EPOCHS, draw, fake_experiment
from tests.report.test_plots import curve_points, parsed, texts_of


def three(higher: bool = True) -> Experiment:
    """Of one setting: 10 scores 80, 1000 scores 90, 100 was stopped at 60."""
    trials = (
        Trial(0, {BETA: 10.0}, "succeeded", 80.0, (70.0, 80.0)),
        Trial(1, {BETA: 1000.0}, "succeeded", 90.0, (75.0, 90.0)),
        Trial(2, {BETA: 100.0}, "stopped early", 60.0, (60.0,)),
    )
    return replace(fake_experiment(0, keys=1), trials=trials, best=1 if higher else 0, higher_is_better=higher)


@pytest.mark.parametrize(("higher", "order"), [(True, [3, 2, 0, 1]), (False, [3, 1, 2, 0])])
def test_what_failed_is_drawn_first_and_the_better_the_later(higher: bool, order: list[int]) -> None:
    experiment = three(higher)
    trials = (*experiment.trials, Trial(3, {BETA: 20.0}, "failed"), Trial(4, {BETA: 30.0}, "running"))
    assert [trial.number for trial in trial_plots.drawn(replace(experiment, trials=trials))] == order


def ordinates(svg: str, width: str) -> list[list[float]]:
    return [[y for _, y in line] for line in curve_points(parsed(svg), width)]


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> Axes:
    """What the pictures of this test are drawn on, so that it can be asked for numbers."""
    found: Axes = Figure().subplots()

    def drawn(_title: str, draw: Callable[[Axes], object], *_size: object, **_options: object) -> str:
        draw(found)
        return ""

    monkeypatch.setattr(trial_plots, "picture", drawn)
    return found


def test_the_first_and_the_last_of_many_trials_are_whole(axes: Axes) -> None:
    trials = tuple(Trial(number, {BETA: 1.0}, "succeeded", 50.0) for number in range(200))
    trial_plots.progress(replace(three(), trials=trials, best=199))
    left, right = axes.get_xlim()
    radius = 200 * 7 / 280  # of the star, 7 of the 280 points that the axes are wide at least
    assert left <= -radius
    assert right >= 199 + radius


@pytest.mark.parametrize(("key", "places"), [(BETA, [0, 1, 0.5]), (EPOCHS, [1, 0, 0.25])])
def test_scores_stand_over_the_values_of_one_setting(key: str, places: list[float], axes: Axes) -> None:
    values = [(10.0, 30), (1000.0, 10), (100.0, 15)]
    trials = tuple(
        Trial(at, {**draw(random.Random(0)), BETA: beta, EPOCHS: epochs}, "succeeded", 50.0 + at)  # noqa: S311
        for at, (beta, epochs) in enumerate(values)
    )
    trial_plots.over(replace(fake_experiment(0), trials=trials, best=2), key)
    place_of = {score: place for mark in axes.collections for place, score in mark.get_offsets()}
    assert [place_of[50.0 + at] for at in range(3)] == pytest.approx(places)


def test_a_line_goes_through_values_and_score() -> None:
    svg = trial_plots.parallel(three())
    ((value, score),) = ordinates(svg, "3")
    (stopped_value, stopped_score), (low_value, low_score) = ordinates(svg, "1.3")
    # Downwards in drawing units: the best has the largest value and score, the stopped one the middle and the least.
    assert value < stopped_value < low_value
    assert stopped_value == pytest.approx((value + low_value) / 2, abs=1e-3)
    assert score < low_score < stopped_score
    assert (low_score - score) / (stopped_score - score) == pytest.approx(10 / 30, abs=1e-3)
    assert {"score", "10", "100", "1,000", "72", "succeeded", "stopped early"} <= texts_of(parsed(svg))
    assert "failed" not in texts_of(parsed(svg))


def test_a_failed_trial_ends_below_the_scores() -> None:
    experiment = three()
    failed = Trial(3, {BETA: 500.0}, "failed", problem="no memory")
    svg = trial_plots.parallel(replace(experiment, trials=(*experiment.trials, failed)))
    lines = ordinates(svg, "1.3")
    assert len(lines) == 3
    assert lines[0][1] == max(line[1] for line in lines)  # drawn first
    assert {"failed", "stopped early"} <= texts_of(parsed(svg))


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_so_far_never_gets_worse(higher: bool) -> None:
    svg = trial_plots.progress(three(higher))
    (step,) = [line for line in ordinates(svg, "1.6") if len(line) > 2]
    downwards = sorted(step, reverse=True)
    assert step == downwards
    assert len(set(step)) == (2 if higher else 1)  # the first trial is the best where the lowest score is


@pytest.mark.parametrize(("higher", "strongest"), [(True, 90.0), (False, 60.0)])
def test_the_better_the_stronger(higher: bool, strongest: float) -> None:
    experiment = three(higher)
    colours = trial_plots._colours(experiment)
    assert [trial.score for trial in experiment.trials if colours[trial.number] == plots.SCALE[-1]] == [strongest]
    assert colours[0] == plots.SCALE[2]
    level = replace(experiment, trials=(*experiment.trials, Trial(3, {BETA: 20.0}, "succeeded", strongest)))
    assert list(trial_plots._colours(level).values()).count(plots.SCALE[-1]) == 2
    many = trial_plots._colours(fake_experiment(100, troubles=False))
    counts = [list(many.values()).count(colour) for colour in plots.SCALE]
    assert counts == [20, 20, 20, 20, 20]


def test_every_trial_that_ended_has_a_mark() -> None:
    experiment = fake_experiment(30, keys=3)
    for svg in (trial_plots.progress(experiment), trial_plots.over(experiment, EPOCHS)):
        marks = re.findall(
            r"<use [^>]*fill: var\(--scale-|<use [^>]*fill: var\(--series-6|<use [^>]*stroke: var\(--series-6", svg
        )
        assert len(marks) == 30
    assert "student.epochs" in texts_of(parsed(trial_plots.over(experiment, EPOCHS)))


def test_a_curve_per_trial() -> None:
    svg = trial_plots.curves(three())
    assert [len(line) for line in ordinates(svg, "2.6")] == [2]
    assert {"intermediate result", "Intermediate scores"} <= texts_of(parsed(svg))


def test_losses_over_orders_of_magnitude_have_a_logarithmic_axis() -> None:
    trials = tuple(Trial(at, {BETA: 10.0 + at}, "succeeded", 10.0**at) for at in range(-2, 3))
    experiment = replace(fake_experiment(0, keys=1), trials=trials, best=-2, higher_is_better=False)
    assert {"0.01", "0.1", "1", "10", "100"} <= texts_of(parsed(trial_plots.parallel(experiment)))


def test_importance_has_the_largest_on_top(axes: Axes) -> None:
    trial_plots.bars(Importance((0.1, 0.6), (0.3, 0.8), 0.9), ["stages.a.lr", "stages.b.weight"])
    assert [[bar.get_width() for bar in bars] for bars in axes.containers] == [[30, 80], [10, 60]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a.lr", "b.weight"]  # from the foot upwards


def test_importance_names_its_bars() -> None:
    svg = trial_plots.bars(Importance((0.1, 0.6), (0.3, 0.8), 0.9), ["stages.a.lr", "stages.b.weight"])
    assert {"a.lr", "b.weight", "alone", "with interactions"} <= texts_of(parsed(svg))


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        ("stages.student.epochs", ["student.epochs"]),
        ("stages.student.objectives.1.beta", ["student.", "objectives.1.beta"]),
        ("stages.student.objectives.0.temperature", ["student.objectives.", "0.temperature"]),
        ("a_plugins_setting_without_a_dot", ["a_plugins_setti", "ng_without_a_dot"]),
        ("stages.a-stage-with-a-long-name.objectives.0.temperature", ["a-stage-with-…e.obje", "ctives.0.temperature"]),
    ],
)
def test_long_keys_are_folded_behind_a_dot_and_keep_their_ends(key: str, lines: list[str]) -> None:
    assert trial_plots._folded(key).split("\n") == lines
