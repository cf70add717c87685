"""Whether trials differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from nasdistill.report.chance import chance_in_words, chance_of
from nasdistill.report.experiments import Trial

SCORES = [[80.0, 83.0, 81.0], [82.0, 84.5, 84.0], [79.0, 83.5, 80.5], [81.0, 85.0, 81.5]]


def test_two_trials_are_compared_as_by_the_paired_t_test() -> None:
    one, other = SCORES[:2]
    assert chance_of([one, other]) == pytest.approx(stats.ttest_rel(one, other).pvalue)


def test_what_seeds_share_is_taken_out_first() -> None:
    x = np.array(SCORES)
    x_t, x_s = x.mean(axis=1, keepdims=True), x.mean(axis=0)
    between = 3 * ((x_t - x.mean()) ** 2).sum() / 3
    within = ((x - x_t - x_s + x.mean()) ** 2).sum() / (3 * 2)
    assert chance_of(SCORES) == pytest.approx(stats.f.sf(between / within, 3, 6))
    shifted = (x + np.array([0.0, 50.0, -7.0])).tolist()
    assert chance_of(shifted) == pytest.approx(chance_of(SCORES))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([[1.0, 2.0]], None), ([[1.0], [2.0]], None), ([[1.0, 2.0], [1.0, 2.0]], None), ([[1.0, 2.0], [2.0, 3.0]], 0.0),
     ([[84.72222222222223] * 2] * 7, None), ([[85.27777777777777, 94.44444444444444, 94.16666666666667]] * 12, None)],
)  # fmt: skip
def test_a_single_trial_or_seed_tells_nothing(scores: Sequence[Sequence[float]], expected: float | None) -> None:
    assert chance_of(scores) == expected


def trial(number: int, *scores: float, state: str = "succeeded") -> Trial:
    return Trial(number, {}, state, sum(scores) / max(1, len(scores)), scores=scores)  # type: ignore[arg-type]


def test_words() -> None:
    noise = [trial(0, 80.0, 70.0), trial(1, 71.0, 80.0), trial(2, 76.0, 75.0)]
    assert chance_in_words(noise) == (
        "Beside what seeds differ by, trials differ so little that which one is best may be chance (analysis of "
        f"variance over 3 trials of 2 seeds, p = {chance_of([each.scores for each in noise]):.3f})."
    )
    sure = [trial(0, 80.0, 70.0), trial(1, 90.0, 80.1), trial(2, 60.0, 50.0), trial(3, 0.0, state="failed")]
    assert chance_in_words(sure).startswith("Trials differ by more than their seeds do (")
    assert "p < 0.001)." in chance_in_words(sure)
    assert chance_in_words([trial(0, 80.0), trial(1, 70.0)]) == ""
