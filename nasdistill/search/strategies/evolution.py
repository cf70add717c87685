"""Regularised evolution: a population whose oldest member dies."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import ClassVar

import torch
from pydantic import Field, model_validator

from nasdistill.data.seeds import derived_seed
from nasdistill.errors import SpecError
from nasdistill.search.given import Given
from nasdistill.search.multi_trial import MultiTrial
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.strategies.proxy import ProxySearch
from nasdistill.search.strategies.random import sample
from nasdistill.search.tuners import Tuner
from nasdistill.training.checkpoints import Checkpoints


class Ageing(Tuner):
    """Suggests some architectures, then drawn ones until the population is full, and then mutations.

    Those without a score never join the population.

    Args:
        alternatives: by label how many there are.
        population: how many live at a time.
        rivals: members, drawn with replacement, of which the best is changed.
        first: what to suggest first.
    """

    def __init__(
        self,
        alternatives: Mapping[str, int],
        seed: int,
        population: int,
        rivals: int,
        first: Sequence[dict[str, int]] = (),
    ) -> None:
        self.choices = {label: tuple(range(count)) for label, count in alternatives.items()}
        self.generator = torch.Generator().manual_seed(seed)
        self.members: deque[tuple[dict[str, int], float]] = deque(maxlen=population)
        self.rivals = rivals
        self.first = deque(first)

    def ask(self) -> dict[str, int]:
        if self.first:
            self.asked = self.first.popleft()
        elif len(self.members) < (self.members.maxlen or 0):
            self.asked = sample(self.choices, self.generator)
        else:
            rivals = [self.members[self._drawn(len(self.members))] for _ in range(self.rivals)]
            self.asked = self.mutated(max(rivals, key=lambda member: member[1])[0])
        return self.asked

    def tell(self, score: float | None) -> None:
        if score is not None:
            self.members.append((self.asked, score))

    def mutated(self, architecture: Mapping[str, int]) -> dict[str, int]:
        """The same but for one choice, any of its other alternatives as likely as any."""
        label = list(self.choices)[self._drawn(len(self.choices))]
        others = [index for index in self.choices[label] if index != architecture[label]]
        return {**architecture, label: others[self._drawn(len(others))]}

    def _drawn(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))


@STRATEGIES.register("evolution")
class Evolution(MultiTrial):
    """Try architectures one by one: change one choice of the best of a few, and let the oldest die.

    The first population is random, or what a proxy finds best. From then on each trial is a mutation of the best among
    `sample` members, drawn with replacement, and takes the place of the oldest member. The paper also keeps one
    architecture in twenty unchanged.
    """

    source: ClassVar[str] = (
        "Real et al. 2019, Regularized Evolution for Image Classifier Architecture Search (arXiv:1802.01548), "
        "algorithm 1; the warm start: Abdelfattah et al. 2021, Zero-Cost Proxies for Lightweight NAS (arXiv:2101.08134)"
    )
    drawn_first: ClassVar[str | None] = "population"

    population: int = Field(20, gt=1, description="architectures that live at a time; the paper has 100")
    sample: int = Field(5, gt=0, description="members of which the best is changed; the paper has 25")
    warm_start: ProxySearch | None = Field(
        None,
        description="options of the strategy proxy: the best of `count` drawn architectures, as scored untrained, are "
        "the first population, e.g. {proxy: synflow, count: 100}",
    )

    @model_validator(mode="after")
    def _enough_to_choose_from(self) -> Evolution:
        if self.warm_start is not None and self.warm_start.count < self.population:
            problem = f"{self.warm_start.count} architectures are too few for a population of {self.population}"
            raise SpecError(problem, ("warm_start", "count"))
        return self

    def tuner(self, alternatives: Mapping[str, int], seed: int, first: Sequence[dict[str, int]] = ()) -> Ageing:
        return Ageing(alternatives, seed, self.population, self.sample, first)

    def tuner_of(self, given: Given) -> Ageing:
        first = [] if self.warm_start is None else given.phases.run(lambda part: self._first(given, part))
        return self.tuner(given.alternatives, derived_seed(given.seed, "tuner"), first)

    def _first(self, given: Given, checkpoints: Checkpoints) -> list[dict[str, int]]:
        """The best of the drawn architectures that are not too large, the very best first."""
        assert self.warm_start is not None
        start = self.warm_start.model_copy(update={"budget": self.budget})
        found = start.find(replace(given, checkpoints=checkpoints))
        scored = [trial for trial in found.trials["trials"] if trial["score"] is not None]
        scored.sort(key=lambda trial: (-trial["score"], trial["parameters"]))
        ranked = (given.architecture(trial["chosen"]) for trial in scored)
        most = math.inf if self.max_parameters is None else self.max_parameters
        return list(islice((each for each in ranked if given.parameters(each) <= most), self.population))
