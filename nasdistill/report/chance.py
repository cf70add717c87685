"""Whether the trials of an experiment differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from nasdistill.report.experiments import Trial

UNSURE = 0.05
"""From this probability on trials are said to differ by chance."""


def chance_of(scores: Sequence[Sequence[float]]) -> float | None:
    """How probable it is that trials whose values make no difference differ as much as these.

    An analysis of variance over T trials and S seeds x_ts, where what all trials of a seed share, such as its split,
    counts for none of them: F = S sum_t (x_t - x)^2 / (sum_ts (x_ts - x_t - x_s + x)^2 / (S - 1)), with T - 1 and
    (T - 1)(S - 1) degrees of freedom; x_t, x_s and x are means.

    Source: Fisher 1925, Statistical Methods for Research Workers, on randomised blocks.

    Args:
        scores: of each trial one for each seed, [T, S].

    Returns:
        in [0, 1]; None of a single trial or seed, or where all scores are equal.
    """
    trials, seeds = len(scores), len(scores[0])
    if trials < 2 or seeds < 2:
        return None
    of_trials, of_seeds = list(map(fmean, scores)), list(map(fmean, zip(*scores, strict=True)))
    mean = fmean(of_trials)
    between = seeds * sum((of_trial - mean) ** 2 for of_trial in of_trials)
    within = sum(
        (score - of_trial - of_seed + mean) ** 2
        for row, of_trial in zip(scores, of_trials, strict=True)
        for score, of_seed in zip(row, of_seeds, strict=True)
    ) / (seeds - 1)
    rounding = trials * seeds * (1e-12 * max(abs(score) for row in scores for score in row)) ** 2
    if within <= rounding:
        return None if between <= rounding else 0.0
    from scipy.special import fdtrc  # scipy.stats takes a second to import

    return float(fdtrc(trials - 1, (trials - 1) * (seeds - 1), between / within))


def chance_in_words(trials: Sequence[Trial]) -> str:
    """A sentence on those that succeeded, where they have several seeds; else nothing."""
    scores = [trial.scores for trial in trials if trial.state == "succeeded" and trial.score is not None]
    if not scores or len({len(each) for each in scores}) > 1:
        return ""
    chance = chance_of(scores)
    if chance is None:
        return ""
    p = f"p = {chance:.3f}" if chance >= 0.001 else "p < 0.001"
    by = f"(analysis of variance over {len(scores)} trials of {len(scores[0])} seeds, {p})"
    if chance >= UNSURE:
        return f"Beside what seeds differ by, trials differ so little that which one is best may be chance {by}."
    return f"Trials differ by more than their seeds do {by}."
