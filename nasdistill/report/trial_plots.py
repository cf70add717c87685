"""The trials of an experiment as pictures, all in one language: the colour goes from the worst fifth to the best one, a
disc is a trial that succeeded, a triangle one that was stopped early, a cross one that failed, a star the best one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nasdistill.report.experiments import Experiment, State, Trial, Trials
from nasdistill.report.importance import Importance
from nasdistill.report.plots import (
    GRID,
    INK,
    PAPER,
    SCALE,
    SERIES,
    legend,
    picture,
    scale_along,
    scale_upright,
    shortened,
    wide,
)
from nasdistill.report.trial_axes import Axis, axes_of, axis

MARKERS: dict[State, str] = {"succeeded": "o", "stopped early": "v", "failed": "x"}
STYLES: dict[State, str] = {"succeeded": "-", "stopped early": "--", "failed": ":"}
BELOW = -0.12
"""Where trials that failed stand: below the axis, as they have no score."""
LONGEST_LINE = 20


def drawn(experiment: Trials) -> list[Trial]:
    """The trials that have ended, those without a score first and the best last, so that it is on top."""
    ended = [
        trial
        for trial in experiment.trials
        if trial.state in MARKERS and trial.values.keys() >= experiment.varied.keys()
    ]
    sign = 1 if experiment.higher_is_better else -1

    def place(trial: Trial) -> tuple[bool, bool, float]:
        return trial.number == experiment.best, trial.score is not None, sign * (trial.score or 0)

    return sorted(ended, key=place)


def parallel(experiment: Trials) -> str:
    """Parallel coordinates: a line per trial through its values and its score."""
    trials = drawn(experiment)
    settings = list(axes_of(experiment, trials).values())
    scores = _score_axis(trials)
    heights = iter(scores.places)
    ends = {trial.number: BELOW if trial.score is None else next(heights) for trial in trials}
    colours = _colours(experiment)

    def draw(axes: Axes) -> None:
        for at, trial in enumerate(trials):
            line = [*(each.places[at] for each in settings), ends[trial.number]]
            width = 3.0 if trial.number == experiment.best else 1.3
            style: Any = {"color": colours[trial.number], "linestyle": STYLES[trial.state], "linewidth": width}
            axes.plot(range(len(line)), line, **style, alpha=0.9, solid_capstyle="round")
        _upright(axes, [*settings, scores])
        names = [*map(_folded, experiment.varied), "score"]
        axes.set_xticks(range(len(names)), names)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        if any(trial.score is None for trial in trials):
            _label(axes, len(settings), BELOW, "failed")
        _legend_of_states(axes, trials, lines=True)

    return picture(f"Values and {experiment.metric}", draw, (max(9.0, 1.7 * (len(settings) + 1)), 4.2), legible=True)


def progress(experiment: Trials) -> str:
    """The score of each trial in the order of submission, and the best so far of those that succeeded."""
    trials = sorted(drawn(experiment), key=lambda trial: trial.number)
    better = max if experiment.higher_is_better else min
    found = [(trial.number, trial.score) for trial in trials if trial.state == "succeeded" and trial.score is not None]

    def draw(axes: Axes) -> None:
        if found:
            best = list(accumulate((score for _, score in found), better))
            numbers = [number for number, _ in found]
            axes.step([*numbers, trials[-1].number], [*best, best[-1]], where="post", color=SERIES[6], linewidth=1.6)
        _score_points(axes, experiment, trials, [trial.number for trial in trials])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        beside = max(0.5, 0.03 * trials[-1].number)  # room for the whole of a mark, however many there are
        axes.set_xlim(-beside, trials[-1].number + beside)
        axes.set_xlabel("trial")

    return picture("Score over trials, and the best so far", draw)


def over(experiment: Trials, key: str) -> str:
    """The score over the values of one varied key."""
    trials = drawn(experiment)
    values = axes_of(experiment, trials)[key]

    def draw(axes: Axes) -> None:
        _score_points(axes, experiment, trials, values.places)
        axes.set_xlim(-0.05, 1.05)
        tilt: Any = {}
        names = [shortened(name, 16) for _, name in values.ticks]
        if sum(map(len, names)) > 40:
            tilt = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks([place for place, _ in values.ticks], names, **tilt)

    return picture(key.removeprefix("stages."), draw)


def curves(experiment: Trials) -> str:
    """The intermediate scores of each trial."""
    trials = [trial for trial in drawn(experiment) if trial.intermediate]
    colours = _colours(experiment)

    def draw(axes: Axes) -> None:
        for trial in trials:
            steps = range(1, len(trial.intermediate) + 1)
            width = 2.6 if trial.number == experiment.best else 1.0
            axes.plot(steps, trial.intermediate, color=colours[trial.number], linewidth=width)
            _point(axes, steps[-1], trial.intermediate[-1], trial, experiment, colours)
        _scale_scores(axes, experiment, [score for trial in trials for score in trial.intermediate])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("intermediate result")
        axes.set_ylabel("score")
        _legend_of_states(axes, trials)

    return picture("Intermediate scores", draw)


def front(experiment: Experiment, cost: str) -> str:
    """The score over one of the costs; a line joins the trials on the front, which may be there for another cost."""
    trials = [trial for trial in drawn(experiment) if trial.score is not None and cost in trial.costs]
    chosen = sorted((trial.costs[cost], trial.score) for trial in trials if trial.number in experiment.front)

    def draw(axes: Axes) -> None:
        axes.plot(*zip(*chosen, strict=True), color=INK, linewidth=1, linestyle=":")
        _score_points(axes, experiment, trials, [trial.costs[cost] for trial in trials])
        for trial in trials:
            if trial.number in experiment.front:
                axes.annotate(str(trial.number), (trial.costs[cost], trial.score), (4, 4), textcoords="offset points")
        scale_along(axes, [trial.costs[cost] for trial in trials])
        axes.set_xlabel(cost.replace("_", " "))

    return picture(f"Score and {cost.replace('_', ' ')}", draw)


def bars(found: Importance, names: Sequence[str]) -> str:
    """The importance of each setting, the largest on top: alone, and with what it explains together with others."""
    order = sorted(range(len(names)), key=lambda at: found.total[at])

    def draw(axes: Axes) -> None:
        total = axes.barh(range(len(order)), [100 * found.total[at] for at in order], color=SERIES[0], alpha=0.35)
        alone = axes.barh(range(len(order)), [100 * found.alone[at] for at in order], color=SERIES[0], height=0.45)
        axes.set_yticks(range(len(order)), [_folded(names[at]) for at in order])
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of the variance, %")
        axes.grid(False, axis="y")
        legend(axes, [alone, total], ["alone", "with interactions"])

    return picture("Importance of each setting", draw, (4.8, 1.4 + 0.38 * len(names)))


def _score_points(axes: Axes, experiment: Trials, trials: Sequence[Trial], xs: Sequence[float]) -> None:
    """A mark per trial at its score, of those that failed at the foot of the picture."""
    colours = _colours(experiment)
    for trial, x in zip(trials, xs, strict=True):
        if trial.score is None:
            axes.scatter(x, 0.03, 30, color=SERIES[6], marker="x", transform=axes.get_xaxis_transform(), clip_on=False)
        else:
            _point(axes, x, trial.score, trial, experiment, colours)
    _scale_scores(axes, experiment, [trial.score for trial in trials if trial.score is not None] or [0.0])
    axes.margins(y=0.12)
    axes.set_ylabel("score")
    _legend_of_states(axes, trials)


def _scale_scores(axes: Axes, experiment: Trials, scores: Sequence[float]) -> None:
    """Percentages stay on a line, on which the good ones lie apart."""
    if not experiment.metric.endswith("%"):
        scale_upright(axes, scores)


def _point(axes: Axes, x: float, y: float, trial: Trial, experiment: Trials, colours: dict[int, str]) -> None:
    best = trial.number == experiment.best
    marker, size = ("*", 150) if best else (MARKERS[trial.state], 34)
    axes.scatter(x, y, size, color=colours[trial.number], marker=marker, zorder=4 if best else 3)


def _colours(experiment: Trials) -> dict[int, str]:
    """By number of the trial: fifths of the different scores from worst to best, grey where there is none."""
    scores = sorted({trial.score for trial in experiment.trials if trial.score is not None})

    def colour(score: float | None) -> str:
        if score is None:
            return SERIES[6]
        share = bisect_left(scores, score) / max(len(scores) - 1, 1) if len(scores) > 1 else 1.0
        share = share if experiment.higher_is_better else 1 - share
        return SCALE[min(int(share * len(SCALE)), len(SCALE) - 1)]

    return {trial.number: colour(trial.score) for trial in experiment.trials}


def _score_axis(trials: Sequence[Trial]) -> Axis:
    scores = [trial.score for trial in trials if trial.score is not None]
    return axis(scores, "log" if wide(scores) else "linear") if scores else Axis((), ())


def _upright(axes: Axes, every: Sequence[Axis]) -> None:
    """An upright axis per setting, its ticks beside it."""
    axes.grid(False)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    for at, each in enumerate(every):
        axes.plot([at, at], [0, 1], color=GRID, linewidth=1.2, zorder=0.5)
        for place, name in each.ticks:
            axes.plot([at - 0.015, at + 0.015], [place, place], color=INK, linewidth=0.8)
            _label(axes, at, place, name)
    axes.set_xlim(-0.15, len(every) - 1 + 0.5)
    axes.set_ylim(BELOW - 0.06, 1.06)


def _label(axes: Axes, at: float, place: float, name: str) -> None:
    box = {"facecolor": PAPER, "alpha": 0.8, "edgecolor": "none", "pad": 0.6}
    axes.text(at + 0.04, place, shortened(name, 16), va="center", fontsize=9, bbox=box, zorder=5)


def _folded(key: str) -> str:
    """A key on at most two lines, broken behind a dot where one is near enough to the middle."""
    name = shortened(key.removeprefix("stages."), 2 * LONGEST_LINE, keep_end=True)
    if len(name) <= LONGEST_LINE:
        return name
    behind_dots = [at for at in range(len(name) - LONGEST_LINE, LONGEST_LINE + 1) if name[at - 1] == "."]
    at = min(behind_dots, key=lambda at: abs(2 * at - len(name)), default=len(name) // 2)
    return f"{name[:at]}\n{name[at:]}"


def _legend_of_states(axes: Axes, trials: Sequence[Trial], lines: bool = False) -> None:
    """What the marks, or the strokes of lines, mean; nothing where all succeeded."""
    states = [state for state in MARKERS if any(trial.state == state for trial in trials)]
    if states == ["succeeded"] or not states:
        return
    handles = [
        axes.plot([], [], color=INK, linestyle=STYLES[state])[0]
        if lines
        else axes.plot([], [], color=INK, linestyle="none", marker=MARKERS[state])[0]
        for state in states
    ]
    legend(axes, handles, list(states))
