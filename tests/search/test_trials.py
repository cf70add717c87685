"""Trials as data: what is small enough, which is best, and, against nni's own rule, who falls behind."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from nasdistill.errors import UserError
from nasdistill.search.scoring import medians_of_means
from nasdistill.search.trials import (
    ArchitectureTrial,
    best_of,
    found_on_the_way,
    leaders,
    next_suggestion,
    replay,
)
from nasdistill.search.tuners import Tuner


class InOrder(Tuner):
    """Suggests 0, 1, 2, ... and remembers what it was told."""

    def __init__(self, most: int = 10_000) -> None:
        self.at = -1
        self.most = most
        self.told: list[float | None] = []

    def ask(self) -> dict[str, int] | None:
        self.at += 1
        return None if self.at == self.most else {"size": self.at}

    def tell(self, score: float | None) -> None:
        self.told.append(score)


def trial(score: float | None, parameters: int = 1) -> ArchitectureTrial:
    return ArchitectureTrial({}, parameters, 0, [] if score is None else [score])


def test_what_is_too_large_is_told_as_failed() -> None:
    tuner = InOrder()
    suggestion = next_suggestion(tuner, lambda alternatives: 100 - alternatives["size"], most=97)
    assert suggestion is not None
    assert (suggestion.alternatives, suggestion.parameters, suggestion.too_large) == ({"size": 3}, 97, 3)
    assert tuner.told == [None, None, None]
    assert next_suggestion(InOrder(most=2), lambda _: 100, most=97) is None


def test_a_limit_that_nothing_meets_is_told() -> None:
    with pytest.raises(UserError, match=r"1000 architectures in a row have more than 97 parameters.*them 101;"):
        next_suggestion(InOrder(), lambda alternatives: 1100 - alternatives["size"], most=97)


def test_the_score_is_the_best_of_the_curve() -> None:
    assert ArchitectureTrial({}, 1, 0, [5.0, 7.0, 6.0]).score == 7.0
    assert ArchitectureTrial({}, 1, 0, []).score is None


def test_a_replay_asks_and_tells_what_was_asked_and_told() -> None:
    tuner = InOrder()
    replay(tuner, ArchitectureTrial({"size": 2}, 1, 2, [5.0, 7.0]))
    assert tuner.told == [None, None, 7.0]
    with pytest.raises(UserError, match="no longer suggests"):
        replay(tuner, ArchitectureTrial({"size": 9}, 1, 0, [5.0]))


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([trial(50), trial(70), trial(60)], 1),
        ([trial(70, 9), trial(70, 8), trial(70, 8)], 1),
        ([trial(None), trial(3)], 1),
        ([trial(None)], None),
        ([], None),
    ],
)
def test_the_best_has_the_highest_score_and_then_the_smallest_network(
    trials: list[ArchitectureTrial], best: int | None
) -> None:
    assert best_of(trials) == best


def test_what_would_be_found_is_told_where_it_changes_and_in_the_end() -> None:
    scored: list[tuple[float | None, int]] = [(None, 1), (50, 9), (40, 1), (50, 8), (50, 8), (60, 7), (None, 1)]
    ahead = leaders(scored)
    assert ahead == [best_of([trial(*each) for each in scored[: done + 1]]) for done in range(7)]
    history = found_on_the_way(enumerate(ahead), lambda number: {"number": number}, "trial")
    assert history["found"] == [[at, {"number": number}] for at, number in [(1, 1), (3, 3), (5, 5), (6, 5)]]
    assert history["found_x"] == "trial"


def judged_by_nni(before: Sequence[Sequence[float]], curve: Sequence[float]) -> list[bool]:
    """After each epoch of `curve`, whether nni's median rule would stop it."""
    pytest.importorskip("nni")
    from nni.algorithms.hpo.medianstop_assessor import MedianstopAssessor
    from nni.assessor import AssessResult

    assessor = MedianstopAssessor("maximize")
    for number, earlier in enumerate(before):
        for length in range(1, len(earlier) + 1):
            assessor.assess_trial(number, list(earlier[:length]))
        assessor.trial_end(number, True)
    return [
        assessor.assess_trial(len(before), list(curve[:length])) is AssessResult.Bad
        for length in range(1, len(curve) + 1)
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 8])
def test_who_falls_behind_is_who_nni_would_stop(count: int) -> None:
    numbers = random.Random(count)  # noqa: S311  (nothing secret)
    before = [[numbers.uniform(0, 100) for _ in range(numbers.randint(1, 6))] for _ in range(count)]
    limits = medians_of_means(before, 6)
    for _ in range(20):
        curve = [numbers.uniform(0, 60) for _ in range(6)]
        behind = [limit is not None and max(curve[: epoch + 1]) < limit for epoch, limit in enumerate(limits)]
        assert behind == judged_by_nni(before, curve)
