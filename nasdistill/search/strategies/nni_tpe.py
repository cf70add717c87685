"""Multi-trial search by the Tree-structured Parzen Estimator of nni."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from nasdistill.search.multi_trial import MultiTrial
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.tuners import Tuner


@STRATEGIES.register("nni:tpe")
class Tpe(MultiTrial):
    """Train architectures one by one; prefer alternatives that are more frequent among good trials than among others.

    nni's tuner TPE on any space. It models each choice by itself, after some trials that are drawn by lot.
    """

    source: ClassVar[str] = "Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization; nni 3.0's tuner TPE"

    drawn_first: ClassVar[str | None] = "drawn"

    drawn: int = Field(20, gt=0, description="trials that are drawn by lot before the tuner models what is good")

    def tuner(self, alternatives: Mapping[str, int], seed: int) -> Tuner:
        from nni.algorithms.hpo.tpe_tuner import TpeTuner

        tuner = TpeTuner("maximize", seed, {"n_startup_jobs": self.drawn})
        # Failures it would forget, and suggest the same again.
        made = Tuner(tuner, "choice", alternatives, seed, failed=0.0)
        # In place of an architecture that it suggested before, nni takes the next corner of the space. Here equal ones
        # cost nothing, and what they score again is evidence.
        tuner.dedup = lambda suggested: suggested
        return made
