"""Optuna's samplers and pruners by name, checked before an experiment starts, and seeded anew for each trial."""

from __future__ import annotations

import inspect
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from nasdistill.errors import SpecError, unknown
from nasdistill.recipes.experiment import TuneSettings
from nasdistill.recipes.loading import Recipe
from nasdistill.storage import sha256_of_json
from nasdistill.tuning.cma_es import CmaEs, check_cma_es
from nasdistill.tuning.drawing import alternatives, distribution, drawn_value
from nasdistill.tuning.plan import digest_of

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

TUNERS = {"TPE": "TPESampler", "Random": "RandomSampler", "NSGA-II": "NSGAIISampler", "GP": "GPSampler"}
"""With optuna's names."""
GRID, CMA = "GridSearch", "CMA-ES"
"""Ours: the grid goes through all values, the last key first."""
ASSESSORS = {"Medianstop": "MedianPruner", "Hyperband": "HyperbandPruner", "ASHA": "SuccessiveHalvingPruner"}


class Sampling:
    """How an experiment draws the values of its trials.

    A trial's values are a function of the seed and of the trials before it. So with one worker an experiment that was
    killed goes on as it would have, and no state of a sampler is kept.

    Attributes:
        distributions: what optuna draws for each varied key.

    Raises:
        RecipeError: the settings name what is not there, or what does not go together, with the place in the recipe.
    """

    def __init__(self, recipe: Recipe, settings: TuneSettings) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.settings = settings
        self.distributions = {key: distribution(varied) for key, varied in settings.vary.items()}
        self._alternatives = {key: alternatives(varied) for key, varied in settings.vary.items()}
        self._tuner, self._options = _named(settings.tuner)
        self._seed = self._options.pop("seed", recipe.seeds[0])
        for kind, check in (("tuner", self._check_tuner), ("assessor", self.pruner)):
            try:
                check()
            except SpecError as error:
                raise recipe.source.error(("tune", kind, *error.path), error.problem) from None
        if settings.budget_key is not None:
            raise recipe.source.error(
                ("tune", "budget_key"),
                "optuna's tuners hand out no budgets, and its Hyperband is an assessor; nni has some that do",
            )

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Of the metric and of the costs beside it."""
        low: Literal["minimize"] = "minimize"
        return ["maximize" if self.settings.higher_is_better else low, *[low] * len(self.settings.objectives)]

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The values for the recipe that stand for what was drawn."""
        return {key: drawn_value(varied, drawn[key]) for key, varied in self.settings.vary.items()}

    def digest(self, drawn: Mapping[str, Any]) -> str:
        """The name of the trial for which this was drawn."""
        return digest_of(self.values(drawn))

    def combinations(self) -> float:
        """How many different trials there can be."""
        return math.prod(math.inf if some is None else len(some) for some in self._alternatives.values())

    def sampler(self, trials: Sequence[FrozenTrial] = (), redraws: int = 0) -> BaseSampler:
        """What draws the values of one trial.

        Args:
            trials: all so far, in the order in which they began; fewer than there are combinations.
            redraws: how often what was drawn for this trial had been tried. After the first time some combination that
                was not is taken, where their number is finite.
        """
        from optuna import samplers

        seed = int(sha256_of_json([self._seed, len(trials), redraws])[:8], 16)
        fixed = None
        if self._tuner == GRID:
            fixed = self._untried(trials, product(*self._finite()))
        elif redraws and self.combinations() < math.inf:
            numbers = random.Random(seed)  # noqa: S311  (nothing secret)
            fixed = self._untried(trials, iter(lambda: tuple(map(numbers.choice, self._finite())), None))
        elif self._tuner == CMA:
            fixed = CmaEs(**self._options).draw(self.distributions, trials, self._loss, seed)
        if fixed is not None:
            return samplers.PartialFixedSampler(fixed, samplers.RandomSampler(seed))
        sampler: BaseSampler = getattr(samplers, TUNERS[self._tuner])(**self._options, seed=seed)
        return sampler

    def pruner(self) -> BasePruner:
        """What ends trials that lag behind."""
        from optuna import pruners

        if self.settings.assessor is None:
            return pruners.NopPruner()
        name, options = _named(self.settings.assessor)
        if name not in ASSESSORS:
            raise SpecError(unknown("assessor", name, ASSESSORS))
        if self.settings.objectives:
            raise SpecError("with several objectives no trial lags behind in all of them; leave one of the two out")
        made = getattr(pruners, ASSESSORS[name])
        _check_options(name, made, options)
        with _taking(name):
            pruner: BasePruner = made(**options)
        return pruner

    def _check_tuner(self) -> None:
        """Draw once, too, as what an option means is known to its author alone."""
        import optuna

        name = self._tuner
        if name not in (*TUNERS, GRID, CMA):
            raise SpecError(unknown("tuner", name, [*TUNERS, GRID, CMA]))
        made = CmaEs if name == CMA else getattr(optuna.samplers, TUNERS.get(name, "RandomSampler"))
        _check_options(name, made, self._options)
        if name == CMA:
            check_cma_es(self.distributions, alone=not self.settings.objectives and not self.settings.constraints)
        for key, some in self._alternatives.items():
            if name == GRID and some is None:
                raise SpecError(f"{GRID} takes values in steps, but {key} is {self.settings.vary[key]}")
        with _taking(name):
            study = optuna.create_study(directions=self.directions, sampler=self.sampler())
            study.ask(self.distributions)

    def _finite(self) -> list[Sequence[Any]]:
        return [some or () for some in self._alternatives.values()]

    def _loss(self, trial: FrozenTrial) -> float:
        if not trial.values:
            return math.inf
        score: float = trial.values[0]
        return -score if self.settings.higher_is_better else score

    def _untried(self, trials: Sequence[FrozenTrial], combinations: Iterator[tuple[Any, ...]]) -> dict[str, Any]:
        tried = {self.digest(trial.params) for trial in trials}
        every = (dict(zip(self.distributions, drawn, strict=True)) for drawn in combinations)
        return next(drawn for drawn in every if self.digest(drawn) not in tried)


def _named(wanted: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    options = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    return str(options.pop("name", None)), options


def _check_options(name: str, made: Any, options: Mapping[str, Any]) -> None:
    known = set(inspect.signature(made).parameters) - {"constraints_func", "seed", "args", "kwargs"}
    for option in options:
        if option not in known:
            raise SpecError(unknown(f"option of {name}", option, known), (option,))


@contextmanager
def _taking(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever its author thought of
        raise SpecError(f"{name} does not take this: {' '.join(str(error).split())}") from None
