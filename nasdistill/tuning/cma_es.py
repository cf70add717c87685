"""CMA-ES over trials: what one suggests is a function of the trials before it, and no optimiser's state is kept.

Optuna's own sampler writes the optimiser into the journal as a pickle, which whoever reads the journal would unpickle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasdistill.errors import SpecError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class CmaEs:
    """Draw from a normal distribution whose mean and covariance follow the better half of each generation.

    Source: Hansen and Ostermeier 2001, Completely derandomized self-adaptation in evolution strategies; the package
    `cmaes`. Each range is the unit interval here, on its logarithmic scale where it has one.

    Args:
        sigma: the first standard deviation, as a share of each range.
        population: trials of a generation; 4 + 3 ln(number of keys) if None.
    """

    def __init__(self, sigma: float = 0.2, population: int | None = None) -> None:
        self._sigma, self._population = sigma, population

    def draw(
        self,
        distributions: Mapping[str, Any],
        trials: Sequence[FrozenTrial],
        loss: Callable[[FrozenTrial], float],
        seed: int,
    ) -> dict[str, Any]:
        """The next values.

        Args:
            trials: in the order in which they began; a generation is told once all of it has ended.
            loss: of a trial, the lower the better, infinite for one without a score.
        """
        import numpy as np
        from cmaes import CMA

        count = len(distributions)
        cma = CMA(
            mean=np.full(count, 0.5),
            sigma=self._sigma,
            bounds=np.tile([0.0, 1.0], (count, 1)),
            population_size=self._population,
            seed=seed,
        )
        for first in range(0, len(trials) - cma.population_size + 1, cma.population_size):
            generation = trials[first : first + cma.population_size]
            if not all(trial.state.is_finished() for trial in generation):
                break
            places = [
                np.array([_place(range_, trial.params[key]) for key, range_ in distributions.items()])
                for trial in generation
            ]
            cma.tell([(place, min(loss(trial), 1e30)) for place, trial in zip(places, generation, strict=True)])
        cma.reseed_rng(seed)
        return {key: _at(range_, place) for (key, range_), place in zip(distributions.items(), cma.ask(), strict=True)}


def check_cma_es(varied: Mapping[str, BaseDistribution], alone: bool) -> None:
    """Find what CMA-ES cannot draw.

    Args:
        alone: whether there is one objective and no constraint.

    Raises:
        SpecError: there is such, or a package is missing.
    """
    from importlib.util import find_spec

    if find_spec("cmaes") is None:
        raise SpecError("CMA-ES needs cmaes: pip install cmaes")
    if choices := [key for key, range_ in varied.items() if not hasattr(range_, "low")]:
        raise SpecError(f"CMA-ES draws numbers, and {choices[0]} is a choice; TPE draws both")
    if len(varied) < 2:
        raise SpecError("CMA-ES needs two keys at least")
    if not alone:
        raise SpecError("CMA-ES knows one objective and no constraints; TPE, NSGA-II and GP know both")


def _place(range_: Any, drawn: float) -> float:
    """Where a value lies in its range, from 0 to 1."""
    if range_.log:
        return math.log(drawn / range_.low) / math.log(range_.high / range_.low)
    return float((drawn - range_.low) / (range_.high - range_.low))


def _at(range_: Any, place: float) -> float:
    low, high = range_.low, range_.high
    drawn = low * (high / low) ** place if range_.log else low + (high - low) * place
    drawn = min(max(drawn, low), high)
    return round(drawn) if isinstance(low, int) else float(drawn)
