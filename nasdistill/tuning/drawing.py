"""What varies as optuna draws it: nni's distributions, with nni's rounding, in the terms of optuna."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from nasdistill.recipes.varied import PARAMETERS, Varied

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TAIL = 1e-6
"""On either side of a normal distribution, never drawn."""
MOST = 10_000
"""Steps of a normal distribution that are listed, at most."""


def distribution(varied: Varied) -> BaseDistribution:
    """What optuna draws for a varied key; `drawn_value` makes a value of it.

    What goes in steps is drawn between them and rounded, and a normal distribution is drawn as its share from 0 to 1.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if varied.kind == "choice":
        return CategoricalDistribution(varied.search_space()["_value"])
    if varied.kind == "randint":
        return IntDistribution(varied.arguments[0], varied.arguments[1] - 1)
    if _is_normal(varied):
        return FloatDistribution(TAIL, 1 - TAIL)
    low, high = varied.arguments[:2]
    return FloatDistribution(low, high, log="log" in varied.kind)


def drawn_value(varied: Varied, drawn: Any) -> Any:
    """The value for the recipe that stands for what was drawn."""
    if varied.kind in ("choice", "randint"):
        return varied.value(drawn)
    if _is_normal(varied):
        drawn = NormalDist(*varied.arguments[:2]).inv_cdf(drawn)
        drawn = math.exp(drawn) if "log" in varied.kind else drawn
    if "step" in PARAMETERS[varied.kind]:
        step = varied.arguments[2]
        drawn = round(drawn / step) * step
        if not _is_normal(varied):
            drawn = min(max(drawn, varied.arguments[0]), varied.arguments[1])
    return varied.value(drawn)


def alternatives(varied: Varied) -> list[Any] | None:
    """All values that can be drawn, in order, as they are drawn; None where there is no end of them, or too many."""
    if varied.kind == "choice":
        return list(varied.search_space()["_value"])
    if varied.kind == "randint":
        return list(range(*varied.arguments))
    if "step" not in PARAMETERS[varied.kind]:
        return None
    low, high, step = varied.arguments
    if _is_normal(varied):
        first, last = (round(drawn_value(varied, share) / step) for share in (TAIL, 1 - TAIL))
        if last - first >= MOST:
            return None
        return [_share(varied, at * step) for at in range(first, last + 1)]
    steps = range(
        math.floor(low / step + 0.5), math.ceil(high / step - 0.5) + 1
    )  # those that have a share of the range
    return sorted({min(max(at * step, low), high) for at in steps})


def _share(varied: Varied, value: float) -> float:
    """Where a value of a normal distribution is drawn, as its share from 0 to 1."""
    mean, deviation = varied.arguments[:2]
    if "log" in varied.kind:
        value = math.log(value) if value > 0 else -math.inf
    return min(max(NormalDist(mean, deviation).cdf(value), TAIL), 1 - TAIL)


def _is_normal(varied: Varied) -> bool:
    return "deviation" in PARAMETERS[varied.kind]
