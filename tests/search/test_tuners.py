"""nni's tuners on a toy objective: they learn, their seeds decide all, and asked the same again they go on the same."""

from __future__ import annotations

import random
import statistics
from typing import Any

import pytest
from scipy.stats import binom

from nasdistill.registry import registry
from nasdistill.search.multi_trial import MultiTrial
from nasdistill.search.tuners import Tuner

pytest.importorskip("nni")

ALTERNATIVES = {f"label-{number}": 6 for number in range(12)}
LEARNING = ("nni:evolution", "nni:tpe")
ALL = (*LEARNING, "nni:random-search")


def tuner(name: str, seed: int, alternatives: dict[str, int] | None = None) -> Tuner:
    strategy: MultiTrial = registry("strategies").parse(name)
    return strategy.tuner(alternatives or ALTERNATIVES, seed)


def right(suggested: dict[str, int]) -> float:
    """The share of the labels whose one good alternative was suggested."""
    return statistics.fmean(index == number % 6 for number, index in enumerate(suggested.values()))


def run(asked: Tuner, trials: int) -> list[dict[str, int]]:
    suggestions = []
    for _ in range(trials):
        suggested = asked.ask()
        assert suggested is not None
        suggestions.append(suggested)
        asked.tell(right(suggested))
    return suggestions


@pytest.mark.parametrize(("name", "trials"), [("nni:evolution", 100), ("nni:tpe", 60)])
def test_a_tuner_that_learns_beats_the_lot(name: str, trials: int) -> None:
    best = {
        each: statistics.fmean(max(map(right, run(tuner(each, seed), trials))) for seed in range(4))
        for each in (name, "nni:random-search")
    }
    # Expected: that of the best of so many draws of Binomial(12, 1/6), the sum over k of P(best >= k).
    expected = sum(1 - binom.cdf(k - 1, 12, 1 / 6) ** trials for k in range(1, 13)) / 12
    assert best["nni:random-search"] == pytest.approx(expected, abs=0.07)
    assert best[name] > best["nni:random-search"] + 0.1


@pytest.mark.parametrize("name", ALL)
def test_seeds_decide_and_nothing_else(name: str) -> None:
    random.seed(1)
    one = run(tuner(name, 3), 40)
    random.seed(2)
    before = random.getstate()
    again = run(tuner(name, 3), 40)
    assert one == again
    assert random.getstate() == before
    assert run(tuner(name, 4), 40) != one


@pytest.mark.parametrize("name", ALL)
def test_one_that_is_told_the_same_again_goes_on_as_it_would_have(name: str) -> None:
    whole = run(tuner(name, 0), 60)
    resumed = tuner(name, 0)
    assert run(resumed, 35) == whole[:35]
    random.seed(5)
    assert run(resumed, 25) == whole[35:]


def test_evolution_changes_one_choice_of_a_good_living_member() -> None:
    suggestions = run(tuner("nni:evolution", 0), 100)
    for number, child in enumerate(suggestions[20:], 20):
        living = suggestions[number - 20 : number]
        parents = [one for one in living if sum(one[label] != child[label] for label in child) <= 1]
        assert parents
        # The best of five, drawn from twenty, is hardly ever among the worst three.
        assert max(map(right, parents)) >= sorted(map(right, living))[3]


def test_the_lot_tries_all_architectures_and_then_ends() -> None:
    small = tuner("nni:random-search", 0, {"two": 2, "three": 3})
    assert {tuple(each.values()) for each in run(small, 6)} == {(one, other) for one in range(2) for other in range(3)}
    assert small.ask() is None


@pytest.mark.parametrize("gamma", [0.25, 1.0, 2.5])
def test_tpe_learns_from_the_first_trials_on(gamma: float) -> None:
    strategy: MultiTrial = registry("strategies").parse({"name": "nni:tpe", "drawn": 1, "gamma": gamma})
    assert len(set(map(str, run(strategy.tuner(ALTERNATIVES, 0), 30)))) == 30


@pytest.mark.parametrize("name", ALL)
def test_failures_are_left_behind(name: str) -> None:
    """Whatever has a wrong first choice fails; the others are learned from, and suggestions do not run out."""
    asked = tuner(name, 0)
    scored: list[dict[str, Any]] = []
    for _ in range(50):
        suggested = asked.ask()
        assert suggested is not None
        fails = suggested["label-0"] != 0
        asked.tell(None if fails else right(suggested))
        if not fails:
            scored.append(suggested)
    assert len(scored) > 5
