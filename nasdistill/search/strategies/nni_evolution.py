"""Multi-trial search by nni's regularised evolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from nasdistill.nni_bridge import require_nni
from nasdistill.search.multi_trial import MultiTrial
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.tuners import NniTuner


@STRATEGIES.register("nni:evolution")
class Evolution(MultiTrial):
    """Train architectures one by one: change one choice of the best of a few, and let the oldest die.

    nni's tuner RegularizedEvolution on any space. The first population is random; from then on each trial is a
    mutation of the best among `sample` members, drawn with replacement, and takes the place of the oldest member.
    """

    source: ClassVar[str] = (
        "Real et al. 2019, Regularized Evolution for Image Classifier Architecture Search (arXiv:1802.01548), "
        "algorithm 1; nni 3.0's tuner RegularizedEvolution"
    )

    drawn_first: ClassVar[str | None] = "population"

    population: int = Field(20, gt=1, description="architectures that live at a time; the paper has 100")
    sample: int = Field(5, gt=0, description="members of which the best is changed; the paper has 25")

    def check_installed(self) -> None:
        require_nni(f"the strategy {self.registered_name!r}", ("nni",))

    def tuner(self, alternatives: Mapping[str, int], seed: int) -> NniTuner:
        self.check_installed()
        from nni.algorithms.hpo.regularized_evolution_tuner import RegularizedEvolutionTuner

        tuner = RegularizedEvolutionTuner("maximize", self.population, self.sample)
        return NniTuner(tuner, "layer_choice", alternatives, seed)
