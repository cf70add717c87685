"""Search without training: architectures are drawn and scored by proxies, and the best one is kept."""

from __future__ import annotations

import math
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from nasdistill.errors import UserError
from nasdistill.search.strategies import STRATEGIES, SearchResult, Strategy
from nasdistill.search.untrained import ProxyOptions, highest, standings

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.given import Given
    from nasdistill.search.spaces import SearchSpace


@STRATEGIES.register("proxy")
class ProxySearch(ProxyOptions, Strategy):
    """Draw architectures, score them untrained by proxies, and keep the best; of several proxies by their mean rank."""

    source: ClassVar[str] = "Abdelfattah et al. 2021, Zero-Cost Proxies for Lightweight NAS (arXiv:2101.08134)"

    count: int = Field(100, gt=0, description="architectures to score; all of a space that has fewer")

    def find(self, given: Given) -> SearchResult:
        from nasdistill.data.seeds import derived_seed, generator_for, seeded
        from nasdistill.models.base import NetworkSpec
        from nasdistill.models.inspection import count_parameters
        from nasdistill.search.strategies.random import in_random_order, those_within_budget

        space, data, engine, seed = given.space, given.data, given.engine, given.seed
        batch = self.batch(data, seed, engine)
        trials: list[dict[str, Any]] = (given.checkpoints.load() or {"trials": []})["trials"]
        total = min(self.count, math.prod(map(len, given.choices.values())))
        order = in_random_order(given.choices, generator_for(seed, "architectures for proxies"))
        with given.records.progress(total, len(trials), unit="network") as progress:
            fitting = those_within_budget(order, lambda chosen: self.within_budget(space.model(chosen), data))
            for chosen, found in islice(fitting, len(trials), total):
                scored = NetworkSpec.for_data(self.compared(space, chosen, data), data)
                # All begin with the same random numbers, so that equal architectures have equal scores.
                with seeded(derived_seed(seed, "weights for proxies"), engine.device):
                    network = engine.place(scored.build())
                    parameters = count_parameters(NetworkSpec.for_data(found, data).build())
                scores = {name: score.value for name, score in self.scores(network, batch).items()}
                trials.append({"chosen": chosen, "parameters": parameters, "scores": scores})
                progress.step()
                given.checkpoints.step(len(trials), partial(dict, trials=trials))
        return self._best(space, data, trials)

    def _best(self, space: SearchSpace, data: Data, trials: list[dict[str, Any]]) -> SearchResult:
        """The trial that stands highest among all."""
        from nasdistill.search.trials import found_on_the_way

        def model(number: int) -> dict[str, Any]:
            return self.within_budget(space.model(trials[number]["chosen"]), data)

        names = ", ".join(trials[0]["scores"])
        standing = standings([trial["scores"] for trial in trials])
        leaders = highest([trial["scores"] for trial in trials], [trial["parameters"] for trial in trials])
        best = leaders[-1]
        if best is None:
            raise UserError(f"none of {len(trials)} architectures has finite scores by {names}")
        untrained: dict[str, Any] = {"curve": [], "stopped": None, "like": None}
        return SearchResult(
            model(best),
            found_on_the_way(enumerate(leaders), model, "trial"),
            metrics={"trials": len(trials), "unscored": standing.count(None), "scores": trials[best]["scores"]},
            trials={
                "score": f"above others by {names}",
                "best": best,
                "trials": [
                    {**trial, "score": score, **untrained} for trial, score in zip(trials, standing, strict=True)
                ],
            },
        )
