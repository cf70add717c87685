"""The values of a setting as places on an axis, so that numbers and choices stand side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator

from nasdistill.report.experiments import Scale, Trial, Trials
from nasdistill.report.importance import Importance, importance
from nasdistill.report.points import value_in_words
from nasdistill.report.trial_tables import value_shown

MOST_NAMES = 12
"""Of choices that are named beside an axis."""


@dataclass(frozen=True)
class Axis:
    """Places from 0, the smallest value, to 1, the largest; k choices share that evenly and stand in their middles.

    Attributes:
        places: one per value.
        ticks: places with what stands there.
    """

    places: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


def axis(values: Sequence[Any], scale: Scale) -> Axis:
    """The axis of at least one value; what is no number makes all of them choices."""
    if scale == "choice" or not all(_is_number(value) for value in values):
        return _choices(values)
    if scale == "log" and min(values) > 0:
        ticks = _decades(min(values), max(values)) or _even(values)
        return _placed([math.log(value) for value in values], [(math.log(tick), _name(tick)) for tick in ticks])
    return _placed(values, [(tick, _name(tick)) for tick in _even(values)])


def axes_of(experiment: Trials, trials: Sequence[Trial]) -> dict[str, Axis]:
    """The axis of each varied key with the values of some of the trials, at least one."""
    return {key: axis([trial.values[key] for trial in trials], experiment.scales[key]) for key in experiment.varied}


def importance_of(experiment: Trials, scored: Sequence[Trial]) -> Importance | None:
    """How important each varied key is for the score of trials that have one; None where all have the same."""
    places = zip(*(axis.places for axis in axes_of(experiment, scored).values()), strict=True)
    return importance(list(places), [trial.score or 0.0 for trial in scored])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _choices(values: Sequence[Any]) -> Axis:
    """Choices that are numbers stand in their order, others in that of the alphabet."""
    numbers = all(_is_number(value) for value in values)
    found = {value_in_words(value): value for value in values}
    names = sorted(found, key=lambda name: (found[name] if numbers else 0, name))
    places = {name: (at + 0.5) / len(names) for at, name in enumerate(names)}
    step = math.ceil(len(names) / MOST_NAMES)
    ticks = tuple((places[name], value_shown(found[name])) for name in names[::step])
    return Axis(tuple(places[value_in_words(value)] for value in values), ticks)


def _placed(values: Sequence[float], ticks: Sequence[tuple[float, str]]) -> Axis:
    low, high = min(values), max(values)

    def place(value: float) -> float:
        return (value - low) / (high - low) if high > low else 0.5

    return Axis(tuple(map(place, values)), tuple((place(tick), name) for tick, name in ticks))


def _even(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    if low == high:
        return [low]
    whole = all(isinstance(value, int) for value in values)
    return [float(tick) for tick in MaxNLocator(4, integer=whole).tick_values(low, high) if low <= tick <= high]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten, with halves between them as far as needed for three ticks; nothing where even these are fewer."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5)):
        ticks = [digit * 10.0**exponent for exponent in exponents for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks
    return []


def _name(tick: float) -> str:
    return f"{tick:,.0f}" if tick == round(tick) and 1000 <= abs(tick) < 1e6 else f"{tick:g}"
