"""Search without training: architectures are drawn and scored by proxies, and the best one is kept."""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from nasdistill.errors import SpecError, UserError
from nasdistill.search.strategies import STRATEGIES, SearchResult, Strategy
from nasdistill.search.untrained import ProxyOptions, highest, standings

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.spaces import SearchSpace
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine
    from nasdistill.training.records import Records

log = logging.getLogger(__name__)

MOST_REFUSED = 1000
"""Architectures in a row with too many or too few parameters, after which there seem to be no others."""


@STRATEGIES.register("proxy")
class ProxySearch(ProxyOptions, Strategy):
    """Draw architectures, score them untrained by proxies, and keep the best; of several proxies by their mean rank."""

    source: ClassVar[str] = "Abdelfattah et al. 2021, Zero-Cost Proxies for Lightweight NAS (arXiv:2101.08134)"

    count: int = Field(100, gt=0, description="architectures to score; all of a space that has fewer")
    parameters: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)]] | None = Field(
        None, description="fewest and most parameters of the found network; others are not scored, e.g. [20000, 30000]"
    )

    @model_validator(mode="after")
    def _fewest_before_most(self) -> ProxySearch:
        if self.parameters is not None and self.parameters[0] > self.parameters[1]:
            raise SpecError("the fewest parameters come first, then the most", ("parameters",))
        return self

    def search(
        self,
        space: SearchSpace,
        data: Data,
        engine: Engine,
        seed: int,
        checkpoints: Checkpoints | None = None,
        records: Records | None = None,
    ) -> SearchResult:
        from nasdistill.data.seeds import derived_seed, generator_for, seeded
        from nasdistill.models.base import NetworkSpec
        from nasdistill.models.inspection import count_parameters
        from nasdistill.search.strategies.random import in_random_order
        from nasdistill.training.checkpoints import Checkpoints
        from nasdistill.training.records import Records

        checkpoints, records = checkpoints or Checkpoints(), records or Records(title="search")
        batch = self.batch(data, seed, engine)
        low, high = self.parameters or (0, math.inf)
        saved = checkpoints.load() or {"seen": 0, "trials": []}
        seen, trials = saved["seen"], saved["trials"]
        refused: list[int] = []
        choices = space.choices(data.shape, len(data.classes))
        total = min(self.count, math.prod(map(len, choices.values())))
        with records.progress(total, len(trials), unit="network") as progress:
            for number, chosen in enumerate(in_random_order(choices, generator_for(seed, "architectures for proxies"))):
                if len(trials) == total or len(refused) == MOST_REFUSED:
                    break
                if number < seen:
                    continue
                # All begin with the same random numbers, so that equal architectures have equal scores.
                with seeded(derived_seed(seed, "weights for proxies"), engine.device):
                    network = engine.place(NetworkSpec.for_data(space.proxy(chosen), data).build())
                    parameters = count_parameters(NetworkSpec.for_data(space.model(chosen), data).build())
                if not low <= parameters <= high:
                    refused.append(parameters)
                    continue
                scores = {name: score.value for name, score in self.scores(network, batch).items()}
                trials.append({"chosen": chosen, "parameters": parameters, "scores": scores})
                refused.clear()
                progress.step()
                checkpoints.step(len(trials), partial(dict, seen=number + 1, trials=trials))
        return self._best(space, trials, refused)

    def _best(self, space: SearchSpace, trials: list[dict[str, Any]], refused: list[int]) -> SearchResult:
        """The trial that stands highest among all."""
        from nasdistill.search.trials import found_on_the_way

        if not trials:
            raise UserError(
                f"none of {len(refused)} architectures has {self.parameters} parameters: they have "
                f"{min(refused)} to {max(refused)}"
            )
        names = ", ".join(trials[0]["scores"])
        found = standings([trial["scores"] for trial in trials])
        leaders = highest([trial["scores"] for trial in trials], [trial["parameters"] for trial in trials])
        best = leaders[-1]
        if best is None:
            raise UserError(f"none of {len(trials)} architectures has finite scores by {names}")
        untrained: dict[str, Any] = {"curve": [], "stopped": None, "like": None}
        return SearchResult(
            space.model(trials[best]["chosen"]),
            found_on_the_way(enumerate(leaders, 1), lambda number: space.model(trials[number]["chosen"]), "trial"),
            metrics={"trials": len(trials), "unscored": found.count(None), "scores": trials[best]["scores"]},
            trials={
                "score": f"above others by {names}",
                "best": best,
                "trials": [
                    {**trial, "score": standing, **untrained} for trial, standing in zip(trials, found, strict=True)
                ],
            },
        )
