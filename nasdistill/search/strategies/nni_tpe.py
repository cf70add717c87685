"""Multi-trial search by the Tree-structured Parzen Estimator of nni."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from nasdistill.nni_bridge import require_nni
from nasdistill.search.multi_trial import MultiTrial
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.tuners import NniTuner

REDRAWS = 100


@STRATEGIES.register("nni:tpe")
class Tpe(MultiTrial):
    """Train architectures one by one; prefer alternatives that are more frequent among good trials than among others.

    nni's tuner TPE on any space. It models each choice by itself, after some random trials. Repeated suggestions are
    drawn anew.
    """

    source: ClassVar[str] = "Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization; nni 3.0's tuner TPE"

    drawn_first: ClassVar[str | None] = "drawn"

    drawn: int = Field(
        20,
        gt=0,
        description="random architectures before the tuner models which are good, too large ones included; enough of "
        "them that some are bad",
    )
    candidates: int = Field(
        4,
        gt=0,
        description="alternatives of a choice that are drawn as good trials have them, of which it takes the most "
        "promising; with many, as nni's 24, it hardly explores",
    )
    gamma: float = Field(
        1.0, gt=0, description="this times the square root of the number of trials count as good; nni has 0.25"
    )

    def check_installed(self) -> None:
        require_nni(f"the strategy {self.registered_name!r}", ("nni",))

    def tuner(self, alternatives: Mapping[str, int], seed: int) -> NniTuner:
        self.check_installed()
        from nni.algorithms.hpo.tpe_tuner import TpeTuner

        drawn = max(self.drawn, self._fewest())
        options = {"n_startup_jobs": drawn, "n_ei_candidates": self.candidates, "gamma": self.gamma}
        tuner = TpeTuner("maximize", seed, options)
        # Failures it would forget, and suggest the same again.
        made = NniTuner(tuner, "choice", alternatives, seed, failed=0.0, redraws=REDRAWS)
        # In place of what it suggested before it would take the next corner of the space, be that good or bad.
        tuner.dedup = lambda suggested: suggested
        return made

    def _fewest(self) -> int:
        """Trials of which not all are good; with fewer nni's tuner fails."""
        return next(count for count in itertools.count(1) if math.ceil(self.gamma * math.sqrt(count)) < count)
