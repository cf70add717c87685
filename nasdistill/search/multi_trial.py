"""Multi-trial search: architectures are tried, one after the other, and a tuner learns from their scores.

Each is trained a little, or all are scored with the weights of one supernet. Trials are comparable: all begin with the
same seed, see the same batches and are scored on the same images, a share of the training images that teaches none of
them. So equal architectures would score the same, and are tried once.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator

from nasdistill.component import Facts
from nasdistill.data.loaders import ImageBatches, evaluation_batches, training_batches
from nasdistill.data.seeds import derived_seed
from nasdistill.data.splits import stratified
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.registry import ComponentOf, build
from nasdistill.search.given import Given
from nasdistill.search.scoring import ScoredTraining, medians_of_means
from nasdistill.search.sharing import SharedWeights
from nasdistill.search.strategies import SearchResult, Strategy
from nasdistill.search.strategies.random_sharing import RandomSharing
from nasdistill.search.trials import ArchitectureTrial, best_of, found_on_the_way, leaders, next_suggestion, replay
from nasdistill.search.tuners import Tuner
from nasdistill.training.checkpoints import Checkpoints, PartOfCheckpoints
from nasdistill.training.fit import fit
from nasdistill.training.losses import Diverged
from nasdistill.training.records import Records
from nasdistill.training.settings import LoopSettings, Score

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.spaces import SearchSpace
    from nasdistill.training.engine import Engine

log = logging.getLogger(__name__)

OF_TRAININGS = ("epochs", "batch_size", "optimizer", "scoring", "select", "patience", "stop_below_median")
"""Options of trials that are trained."""

Evaluation = Callable[[Mapping[str, int], list[ArchitectureTrial], Checkpoints], tuple[list[float], str | None]]
"""Of an architecture, after the trials before: its scores, one an epoch, and why it ended early, if it did."""


class MultiTrial(Strategy):
    """Base of strategies that try one architecture after the other; a subclass gives the tuner that suggests them."""

    drawn_first: ClassVar[str | None] = None
    """The field that says how many trials are random before the tuner learns."""

    trials: int = Field(50, gt=0, description="architectures to try; equal ones are evaluated once")
    shared_weights: RandomSharing | None = Field(
        None,
        description="options of random-sharing, e.g. {epochs: 50}: train one supernet so, and score every architecture "
        "with its weights in place of training it",
    )
    epochs: int = Field(5, gt=0, description="epochs of a trial, at most")
    batch_size: int = Field(128, gt=1, description="images per step of a trial, over all devices together")
    optimizer: Annotated[Any, ComponentOf("optimizers")] = Field(
        "sgd",
        validate_default=True,
        description="what updates a trial's weights; its learning rate falls to 0 (cosine)",
    )
    scoring: float = Field(
        0.2, gt=0, lt=1, description="share of the training images that scores all trials; the others teach them"
    )
    select: Score = Field("accuracy", description="the score: its best value of all epochs is that of the trial")
    patience: int | None = Field(None, gt=0, description="stop a trial after so many epochs without a better score")
    stop_below_median: int | None = Field(
        None,
        gt=0,
        description="from this epoch on, stop a trial whose best score is below the median of the mean scores that "
        "earlier trials had up to the same epoch; stopped ones do not count",
    )
    max_parameters: int | None = Field(
        None, gt=0, description="largest network to find; larger ones are failures to the tuner, and not trained"
    )

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        return None if self.shared_weights is None else self.shared_weights.reason_to_refuse(space)

    def reason_to_have_no_epochs(self) -> str | None:
        return (
            None if self.shared_weights is None else "trains shared weights alone: give strategy.shared_weights.epochs"
        )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.shared_weights is not None:
            plain = build(MultiTrial, {})
            for name in OF_TRAININGS:
                if getattr(self, name) != getattr(plain, name):
                    yield name, "architectures are scored with shared weights and not trained"
            for name in self.shared_weights.differs("candidates", "budget"):
                yield f"shared_weights.{name}", "trials are suggested, not drawn"
            return
        if self.patience and self.patience + 1 >= self.epochs:
            yield "patience", f"the {self.epochs} epochs of a trial are too few to end earlier"
        if self.stop_below_median and self.stop_below_median >= self.epochs:
            yield "stop_below_median", f"a trial has {self.epochs} epochs"

    @model_validator(mode="after")
    def _learns(self) -> MultiTrial:
        if self.drawn_first is not None and getattr(self, self.drawn_first) >= self.trials:
            drawn = getattr(self, self.drawn_first)
            problem = f"must be less than the number of trials, {self.trials}, got {drawn}"
            raise SpecError(f"{problem}: the tuner suggests none before so many are scored", (self.drawn_first,))
        return self

    def tuner(self, alternatives: Mapping[str, int], seed: int) -> Tuner:
        """The tuner for choices with so many alternatives each."""
        raise NotImplementedError(type(self).__name__)

    def tuner_of(self, given: Given) -> Tuner:
        """The tuner of a search; by default one that knows no more than how many alternatives there are."""
        return self.tuner(given.alternatives, derived_seed(given.seed, "tuner"))

    def find(self, given: Given) -> SearchResult:
        if not given.alternatives:
            raise UserError(f"the space {given.space.registered_name!r} has one architecture: there is nothing to try")
        tuner = self.tuner_of(given)
        shared = None if self.shared_weights is None else SharedWeights(self.shared_weights, given)
        evaluate = self._training(given) if shared is None else shared.evaluate
        saved = given.phases.run(lambda part: self._tried(given, tuner, evaluate, part))
        trials = [ArchitectureTrial(**each) for each in saved]

        def model(number: int) -> dict[str, Any]:
            return given.model(trials[number].alternatives)

        ahead = leaders((trial.score, trial.parameters) for trial in trials)
        best = ahead[-1]
        if best is None:
            raise UserError(f"none of {len(trials)} trials has a score: all diverged; a lower learning rate may help")
        trained = sum(trial.like is None for trial in trials)
        history = found_on_the_way(enumerate(ahead), model, "trial")
        return SearchResult(
            model(best),
            history if shared is None else history | {"curves": shared.curves},
            metrics={"trials": len(trials), "trained": trained, "score": trials[best].score},
            trials={
                "score": self.select if shared is None else "accuracy with shared weights",
                "best": best,
                "trials": [trial.plain() | {"chosen": given.chosen(trial.alternatives)} for trial in trials],
            },
        )

    def _tried(
        self, given: Given, tuner: Tuner, evaluate: Evaluation, checkpoints: Checkpoints
    ) -> list[dict[str, Any]]:
        """The trials as plain data, one after the other."""
        saved = checkpoints.load() or {"trials": [], "running": None}
        trials, running = [ArchitectureTrial(**each) for each in saved["trials"]], saved["running"]
        steps = self.epochs * len(given.data.train) + 1  # more than a trial has
        evaluated: dict[str, int] = {}
        for number, trial in enumerate(trials):
            replay(tuner, trial)
            evaluated.setdefault(given.identity(trial.alternatives), number)

        def state(of_running: Mapping[str, Any] | None = None) -> dict[str, Any]:
            return {"trials": [dataclasses.asdict(trial) for trial in trials], "running": of_running}

        while len(trials) < self.trials:
            suggestion = next_suggestion(tuner, given.parameters, self.max_parameters)
            if suggestion is None:
                log.info("%s: all architectures were tried", given.records.title)
                break
            number = len(trials)
            like = evaluated.setdefault(given.identity(suggestion.alternatives), number)
            if like < number:
                trial = ArchitectureTrial(
                    **vars(suggestion), curve=trials[like].curve, stopped=trials[like].stopped, like=like
                )
            else:
                part = PartOfCheckpoints(checkpoints, number * steps, running, state)
                curve, stopped = evaluate(suggestion.alternatives, trials, part)
                trial, running = ArchitectureTrial(**vars(suggestion), curve=curve, stopped=stopped), None
            tuner.tell(trial.score)
            trials.append(trial)
            if trial.like is None:
                checkpoints.step(len(trials) * steps, state)
            _log(trials, given.records)
        return [dataclasses.asdict(trial) for trial in trials]

    def _training(self, given: Given) -> Evaluation:
        """Architectures are evaluated by training each, from the same random numbers on."""
        training, scoring = self._parts(given.data, given.engine, given.seed)

        def evaluate(
            architecture: Mapping[str, int], before: list[ArchitectureTrial], checkpoints: Checkpoints
        ) -> tuple[list[float], str | None]:
            torch.manual_seed(given.seed)
            model = self.compared(given.space, given.chosen(architecture), given.data)
            spec = NetworkSpec.for_data(model, given.data)
            network = spec.build()
            torch.manual_seed(given.seed)
            task = ScoredTraining(network, self.select, self._limits(before))
            records = given.records.part(f"trial {len(before)}")
            return self._trained(task, training, scoring, given.engine, checkpoints, records)

        return evaluate

    def _parts(self, data: Data, engine: Engine, seed: int) -> tuple[ImageBatches, ImageBatches]:
        """Batches of the training images that teach the trials, and of those that score them."""
        count = round(self.scoring * len(data.train))
        if not 0 < count < len(data.train) - 1:
            raise UserError(
                f"{len(data.train)} training images are too few to score trials on {self.scoring:g} of them"
            )
        held_back, others = stratified(data.train.labels, count, seed)
        training = dataclasses.replace(data, train=data.train.subset(others))
        return (
            training_batches(training, self.batch_size, derived_seed(seed, "trials"), engine),
            evaluation_batches(data.train.subset(held_back), data, engine),
        )

    def _limits(self, trials: list[ArchitectureTrial]) -> list[float | None]:
        """For each epoch what the best score of a trial must reach, or else it ends."""
        if self.stop_below_median is None:
            return [None] * self.epochs
        whole = [trial.curve for trial in trials if trial.like is None and trial.stopped is None]
        medians = medians_of_means(whole, self.epochs)
        return [median if epoch >= self.stop_below_median else None for epoch, median in enumerate(medians, 1)]

    def _trained(
        self,
        task: ScoredTraining,
        training: ImageBatches,
        scoring: ImageBatches,
        engine: Engine,
        checkpoints: Checkpoints,
        records: Records,
    ) -> tuple[list[float], str | None]:
        """The scores of each epoch, none where training diverged, and why it ended early, if it did."""
        options = {"epochs": self.epochs, "batch_size": self.batch_size, "optimizer": self.optimizer, "keep": "last"}
        settings = build(LoopSettings, {**options, "patience": self.patience})
        try:
            fitted = fit(task, training, scoring, scoring, settings, engine, checkpoints, records, self.select)
        except Diverged as error:
            log.warning("%s has no score: %s", records.title, error)
            return [], "diverged"
        finally:
            records.close()
        return [score for _epoch, score in fitted.history["curves"][task.curve]], fitted.stopped


def _log(trials: list[ArchitectureTrial], records: Records) -> None:
    number, trial = len(trials) - 1, trials[-1]
    best = best_of(trials)
    if best is None or trial.score is None:
        return
    so_far = max(trials[best].curve)
    records.scalars({"score": trial.score, "best score": so_far, "parameters": float(trial.parameters)}, number)
    same = f", the same as trial {trial.like}" if trial.like is not None else ""
    text = "%s: trial %d scores %.2f %% with %d parameters%s; the best is trial %d with %.2f %%"
    log.info(text, records.title, number, trial.score, trial.parameters, same, best, so_far)
