"""Local search: climb from a random architecture to a local optimum, and begin anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch

from nasdistill.search.multi_trial import MultiTrial
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.tuners import Tuner

Architecture = tuple[int, ...]
"""Of each label the index of its alternative."""


class Climb(Tuner):
    """Suggests a random architecture, all its neighbours, those of the best of them, and so on as long as it climbs.

    Then it begins with another random one. Neighbours differ in one choice. What was tried before is not suggested
    again; what has no score is below all others.

    Args:
        alternatives: by label how many there are.
    """

    def __init__(self, alternatives: Mapping[str, int], seed: int) -> None:
        self.labels, self.counts = list(alternatives), list(alternatives.values())
        self.generator = torch.Generator().manual_seed(seed)
        self.scores: dict[Architecture, float] = {}
        self.centre: Architecture | None = None
        self.next: list[Architecture] = []

    def ask(self) -> dict[str, int] | None:
        while not self.next:
            best = self._best_neighbour()
            if best is None and len(self.scores) == math.prod(self.counts):
                return None
            self.centre = best or self._drawn()
            self.next = [each for each in self.neighbours(self.centre) if each not in self.scores]
            if best is None:
                self.next.insert(0, self.centre)
        self.asked = self.next.pop(0)
        return dict(zip(self.labels, self.asked, strict=True))

    def tell(self, score: float | None) -> None:
        self.scores[self.asked] = -math.inf if score is None else score

    def neighbours(self, centre: Architecture) -> list[Architecture]:
        """In a random order, so that a search that ends among them has favoured no choice."""
        found = [
            (*centre[:place], index, *centre[place + 1 :])
            for place, count in enumerate(self.counts)
            for index in range(count)
            if index != centre[place]
        ]
        return [found[number] for number in torch.randperm(len(found), generator=self.generator).tolist()]

    def _best_neighbour(self) -> Architecture | None:
        """Where to go next; None at a local optimum, and at first."""
        if self.centre is None:
            return None
        best = max(self.neighbours(self.centre), key=self.scores.__getitem__)
        return best if self.scores[best] > self.scores[self.centre] else None

    def _drawn(self) -> Architecture:
        """Any that was not tried."""
        while True:
            drawn = tuple(int(torch.randint(count, (), generator=self.generator)) for count in self.counts)
            if drawn not in self.scores:
                return drawn


@STRATEGIES.register("local-search")
class LocalSearch(MultiTrial):
    """Try a random architecture and all that differ from it in one choice; go on with the best of them.

    Where none is better, it begins anew with another random one. It ends early where it has tried all architectures.
    """

    source: ClassVar[str] = (
        "White et al. 2020, Local Search is State of the Art for NAS Benchmarks (arXiv:2005.02960); "
        "den Ottelander et al. 2020, Local Search is a Remarkably Strong Baseline for NAS (arXiv:2004.08996)"
    )

    def tuner(self, alternatives: Mapping[str, int], seed: int) -> Climb:
        return Climb(alternatives, seed)
