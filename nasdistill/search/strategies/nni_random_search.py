"""Multi-trial search by lot, with nni's tuner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from nasdistill.nni_bridge import require_nni
from nasdistill.search.multi_trial import MultiTrial
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.tuners import NniTuner


@STRATEGIES.register("nni:random-search")
class RandomSearch(MultiTrial):
    """Train random architectures, no two alike, and keep the best: the baseline that other tuners must beat.

    nni's tuner Random on any space. It ends early where it has tried all architectures.
    """

    source: ClassVar[str] = "Li and Talwalkar 2019, Random Search and Reproducibility for NAS; nni 3.0's tuner Random"

    def check_installed(self) -> None:
        require_nni(f"the strategy {self.registered_name!r}", ("nni",))

    def tuner(self, alternatives: Mapping[str, int], seed: int) -> NniTuner:
        self.check_installed()
        from nni.algorithms.hpo.random_tuner import RandomTuner

        return NniTuner(RandomTuner(seed), "choice", alternatives, seed)
