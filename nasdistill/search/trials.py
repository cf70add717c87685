"""Trials of a multi-trial search, as plain data: what was suggested, what it scored, which is the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdistill.errors import UserError
from nasdistill.growth.budget import OverBudget
from nasdistill.search.tuners import Tuner

MOST_TOO_LARGE = 1000
"""Suggestions in a row that have too many parameters, after which there seem to be no others."""


@dataclass(frozen=True)
class Suggestion:
    """An architecture to try.

    Attributes:
        alternatives: by label the index of its alternative.
        parameters: of the network that it describes.
        too_large: how many suggestions before it had more parameters than allowed.
    """

    alternatives: dict[str, int]
    parameters: int
    too_large: int


@dataclass(frozen=True)
class ArchitectureTrial(Suggestion):
    """An architecture that was tried.

    Attributes:
        curve: its score in percent after each epoch.
        stopped: why its training ended early, if it did.
        like: number of the earlier trial that had the same architecture, and was trained for both.
    """

    curve: list[float]
    stopped: str | None = None
    like: int | None = None

    @property
    def score(self) -> float | None:
        """The best of the curve; None where training diverged."""
        return max(self.curve, default=None)

    def plain(self) -> dict[str, Any]:
        """What `trials.json` holds of it, besides what was chosen."""
        names = ("parameters", "curve", "stopped", "like", "too_large")
        return {"score": self.score} | {name: getattr(self, name) for name in names}


def next_suggestion(
    tuner: Tuner, parameters: Callable[[Mapping[str, int]], int], most: int | None
) -> Suggestion | None:
    """What the tuner suggests next that is small enough; what is too large counts as failed.

    Args:
        parameters: how many an architecture has; raises `OverBudget` where it can be no small network.
        most: how many it may have.

    Returns:
        None where the tuner has nothing left.

    Raises:
        UserError: nothing that it suggests is small enough; an `OverBudget` where that was the reason each time.
    """
    refused, smallest = 0, math.inf
    while (alternatives := tuner.ask()) is not None:
        try:
            count = parameters(alternatives)
            if most is None or count <= most:
                return Suggestion(alternatives, count, refused)
            smallest = min(smallest, count)
        except OverBudget:
            if refused + 1 == MOST_TOO_LARGE and smallest == math.inf:
                raise
        tuner.tell(None)
        refused += 1
        if refused == MOST_TOO_LARGE:
            raise UserError(
                f"{refused} architectures in a row have more than {most} parameters, the smallest of them "
                f"{smallest}; allow more, or search a smaller space"
            )
    return None


def replay(tuner: Tuner, trial: ArchitectureTrial) -> None:
    """Bring a tuner to where it was after a trial.

    Raises:
        UserError: it suggests something else than it did then.
    """
    for _ in range(trial.too_large):
        tuner.ask()
        tuner.tell(None)
    if tuner.ask() != trial.alternatives:
        raise UserError(
            "the tuner no longer suggests what it did when this search began, as another version of nni or numpy may; "
            "begin again in a new folder"
        )
    tuner.tell(trial.score)


def best_of(trials: Sequence[ArchitectureTrial]) -> int | None:
    """The number of the best trial, see `leaders`; None if none has a score."""
    return [None, *leaders((trial.score, trial.parameters) for trial in trials)][-1]


def leaders(networks: Iterable[tuple[float | None, int]]) -> list[int | None]:
    """After the first network, the first two, and so on: the number of the best of these, None if none has a score.

    That is the one with the highest score; of equals the smallest one, and then the earliest.

    Args:
        networks: (score, parameters) of each; None where it has no score.
    """
    best: tuple[float, int, int] | None = None
    found = []
    for number, (score, parameters) in enumerate(networks):
        if score is not None and (best is None or (-score, parameters, number) < best):
            best = (-score, parameters, number)
        found.append(best[2] if best else None)
    return found


def found_on_the_way(
    best: Iterable[tuple[int, int | None]], model: Callable[[int], dict[str, Any]], x: str
) -> dict[str, Any]:
    """The history of a search that tries architectures: what it would have found, where that changes, and in the end.

    Args:
        best: in order (x, number of the best architecture so far), None where none has a score.
        model: of the architecture of a number.
        x: what x counts, e.g. `trial`.

    Returns:
        see `SearchResult`.
    """
    course = [(at, number) for at, number in best if number is not None]
    befores = [None, *(number for _at, number in course)]
    found = [
        [at, model(number)]
        for place, ((at, number), before) in enumerate(zip(course, befores, strict=False), 1)
        if number != before or place == len(course)
    ]
    return {"curves": {}, "found": found, "found_x": x}
