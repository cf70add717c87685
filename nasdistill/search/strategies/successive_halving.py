"""Search by a race: drawn architectures are trained a little, the worse half is left out, the others train on."""

from __future__ import annotations

import logging
import math
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from nasdistill.errors import UserError
from nasdistill.registry import ComponentOf
from nasdistill.search.strategies import STRATEGIES, SearchResult, Strategy

if TYPE_CHECKING:
    from nasdistill.search.given import Given
    from nasdistill.search.race import Racer
    from nasdistill.search.spaces import SearchSpace

log = logging.getLogger(__name__)


@STRATEGIES.register("successive-halving")
class SuccessiveHalving(Strategy):
    """Draw architectures and train them; half as many go on each round, for twice as long, until two are left.

    What counts is the mean training loss of a round, each batch's before it is learned from: it needs no images of its
    own, and how fast a network learns tells more than an early score on a few held-out images. All see the same batches
    with the same learning rates, those of a training as long as the longest.
    """

    source: ClassVar[str] = (
        "Jamieson and Talwalkar 2016, Non-stochastic Best Arm Identification (arXiv:1502.07943); the loss: "
        "Ru et al. 2021, Speedy Performance Estimation for NAS (arXiv:2006.04492)"
    )

    candidates: int = Field(8, gt=1, le=4096, description="architectures of the first round")
    epochs: int = Field(1, gt=0, description="epochs of the first round")
    batch_size: int = Field(128, gt=1, description="images per step, over all devices together")
    optimizer: Annotated[Any, ComponentOf("optimizers")] = Field(
        "sgd", validate_default=True, description="what updates the weights; its learning rate falls to 0 (cosine)"
    )
    clip: float | None = Field(5.0, gt=0, description="largest norm of all gradients together; longer ones are scaled")

    def reason_to_keep_no_weights(self, space: SearchSpace) -> str | None:
        return space.other_size() if self.budget is None else None

    def rounds(self) -> list[tuple[int, int]]:
        """How many take part in each round, and for how many epochs each of these is trained by its end.

        Examples:
            >>> SuccessiveHalving(candidates=8, epochs=1).rounds()
            [(8, 1), (4, 2), (2, 4)]
        """
        rounds = [(self.candidates, self.epochs)]
        while rounds[-1][0] > 2:
            taking_part, epochs = rounds[-1]
            rounds.append(((taking_part + 1) // 2, 2 * epochs))
        return rounds

    def trained(self, racers: int) -> int:
        """Epochs of all trainings together, where so many take part at first."""
        begun = [0, *(until for _taking_part, until in self.rounds())]
        return sum(
            min(racers, taking_part) * (until - start)
            for (taking_part, until), start in zip(self.rounds(), begun, strict=False)
        )

    def find(self, given: Given) -> SearchResult:
        from nasdistill.search.race import Race, Racer, ranking

        data, engine, seed, checkpoints = given.data, given.engine, given.seed, given.checkpoints
        rounds = self.rounds()
        racers = [
            Racer(number, chosen, spec, self.optimizer, seed, engine)
            for number, (chosen, spec) in enumerate(self._drawn(given))
        ]
        race = Race(racers, data, engine, seed, self.batch_size, rounds[-1][1], self.clip, checkpoints)
        with given.records.progress(self.trained(len(racers)) * race.steps_per_epoch, race.resume()) as progress:
            left, begun, epochs = racers, 0, 0
            ahead: list[tuple[int, int | None]] = []  # after so many epochs, of all together, who was it
            for taking_part, until in rounds:
                left = left[:taking_part]
                for trained, racer in enumerate(left, 1):
                    race.train(racer, until, progress)
                    epochs += min(racer.epoch, until) - min(racer.epoch, begun)
                    if begun == 0 or trained == len(left):  # who is left is compared once all are as far
                        best = ranking(left[:trained], begun, until)[0]
                        ahead.append((epochs, best.number if math.isfinite(best.loss(begun, until)) else None))
                left = ranking(left, begun, until)
                log.info(
                    "%s: after epoch %d the best of %d is architecture %d with a loss of %.4f",
                    *(given.records.title, until, len(left), left[0].number, left[0].loss(begun, until)),
                )
                begun = until
        if left[0].diverged:
            raise UserError(f"all of {len(racers)} architectures diverged; a lower learning rate may help")
        return self._result(given.space, racers, left, ahead)

    def _drawn(self, given: Given) -> list[tuple[dict[str, Any], Any]]:
        """The architectures that race, each once, with the specs of the networks that stand for them."""
        from nasdistill.data.seeds import generator_for
        from nasdistill.models.base import NetworkSpec
        from nasdistill.search.strategies.random import in_random_order, those_within_budget

        order = in_random_order(given.choices, generator_for(given.seed, "architectures that race"))
        fitting = those_within_budget(
            order, lambda chosen: NetworkSpec.for_data(self.compared(given.space, chosen, given.data), given.data)
        )
        return list(islice(fitting, self.candidates))

    def _result(
        self, space: SearchSpace, racers: list[Racer], left: list[Racer], ahead: list[tuple[int, int | None]]
    ) -> SearchResult:
        from nasdistill.models.layers import copy_into
        from nasdistill.search.race import lead
        from nasdistill.search.trials import found_on_the_way

        def model(number: int) -> dict[str, Any]:
            racer = racers[number]
            return space.model(racer.chosen) if self.budget is None else racer.spec.model.spec()

        best = left[0].number
        metrics: dict[str, Any] = {"trials": len(racers), "epochs": sum(racer.epoch for racer in racers)}
        if len(left) > 1:
            margin, noise = lead(left[0], left[1])
            metrics |= {"lead": margin, "noise": noise}
            if margin <= 2 * noise:
                log.warning(
                    "chance decided between the last two architectures: the loss of one is lower by %.2g, less than "
                    "twice the noise of their batches (%.2g)",
                    margin,
                    noise,
                )
        trials = {"score": "training accuracy", "best": best, "trials": [racer.trial() for racer in racers]}
        return SearchResult(
            model(best),
            found_on_the_way(ahead, model, "epoch"),
            metrics=metrics,
            trials=trials,
            hand_over=partial(copy_into, source=left[0].network),
        )
