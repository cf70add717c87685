"""Multi-trial search: architectures are trained a little, one after the other, and a tuner learns from their scores.

Trials are comparable: all begin with the same seed, see the same batches and are scored on the same images, a share of
the training images that teaches none of them. So equal architectures would score the same, and are trained once.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator

from nasdistill.component import Facts
from nasdistill.data.loaders import ImageBatches, evaluation_batches, training_batches
from nasdistill.data.seeds import derived_seed
from nasdistill.data.splits import stratified
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.models.inspection import count_parameters
from nasdistill.nni_bridge import require_nni
from nasdistill.registry import ComponentOf, build
from nasdistill.search.scoring import ScoredTraining, medians_of_means
from nasdistill.search.strategies import SearchResult, Strategy
from nasdistill.search.trials import ArchitectureTrial, best_of, found_on_the_way, leaders, next_suggestion, replay
from nasdistill.search.tuners import Tuner
from nasdistill.storage import sha256_of_json
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


class MultiTrial(Strategy):
    """Base of strategies that train each architecture; a subclass gives the tuner that suggests them."""

    has_epochs: ClassVar[bool] = True
    drawn_first: ClassVar[str | None] = None
    """The field that says how many trials are random before the tuner learns."""

    trials: int = Field(50, gt=0, description="architectures to try; equal ones are trained once")
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

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.patience and self.patience + 1 >= self.epochs:
            yield "patience", f"the {self.epochs} epochs of a trial are too few to end earlier"
        if self.stop_below_median and self.stop_below_median >= self.epochs:
            yield "stop_below_median", f"a trial has {self.epochs} epochs"

    @model_validator(mode="after")
    def _learns(self) -> MultiTrial:
        if self.drawn_first is not None and getattr(self, self.drawn_first) >= self.trials:
            drawn = getattr(self, self.drawn_first)
            problem = f"{drawn} trials are random before the tuner learns anything, of {self.trials} trials"
            raise SpecError(f"{problem}: fewer must be", (self.drawn_first,))
        return self

    def tuner(self, alternatives: Mapping[str, int], seed: int) -> Tuner:
        """The tuner for choices with so many alternatives each."""
        raise NotImplementedError(type(self).__name__)

    def search(
        self,
        space: SearchSpace,
        data: Data,
        engine: Engine,
        seed: int,
        checkpoints: Checkpoints | None = None,
        records: Records | None = None,
    ) -> SearchResult:
        checkpoints, records = checkpoints or Checkpoints(), records or Records(title="search")
        choices = space.choices(data.shape, len(data.classes))
        open_choices = {label: len(each) for label, each in choices.items() if len(each) > 1}
        if not open_choices:
            raise UserError(f"the space {space.registered_name!r} has one architecture: there is nothing to try")
        require_nni(f"the strategy {self.registered_name!r}", ("nni",))
        tuner = self.tuner(open_choices, derived_seed(seed, "tuner"))
        training, scoring = self._parts(data, engine, seed)
        steps = self.epochs * (len(training) + 1) + 1  # more than a trial has

        def chosen(alternatives: Mapping[str, int]) -> dict[str, Any]:
            return {label: each[alternatives.get(label, 0)] for label, each in choices.items()}

        def model(number: int) -> dict[str, Any]:
            return space.model(chosen(trials[number].alternatives))

        def parameters(alternatives: Mapping[str, int]) -> int:
            return count_parameters(NetworkSpec.for_data(space.model(chosen(alternatives)), data).build())

        def identity(alternatives: Mapping[str, int]) -> str:
            return sha256_of_json(space.canonical(chosen(alternatives)))

        saved = checkpoints.load() or {"trials": [], "running": None}
        trials, running = [ArchitectureTrial(**each) for each in saved["trials"]], saved["running"]
        trained: dict[str, int] = {}
        for number, trial in enumerate(trials):
            replay(tuner, trial)
            trained.setdefault(identity(trial.alternatives), number)

        def state(of_running: Mapping[str, Any] | None) -> dict[str, Any]:
            return {"trials": [dataclasses.asdict(trial) for trial in trials], "running": of_running}

        while len(trials) < self.trials:
            suggestion = next_suggestion(tuner, parameters, self.max_parameters)
            if suggestion is None:
                log.info("%s: all architectures were tried", records.title)
                break
            number = len(trials)
            like = trained.setdefault(identity(suggestion.alternatives), number)
            if like < number:
                trial = ArchitectureTrial(
                    **vars(suggestion), curve=trials[like].curve, stopped=trials[like].stopped, like=like
                )
            else:
                torch.manual_seed(seed)
                network = NetworkSpec.for_data(space.proxy(chosen(suggestion.alternatives)), data).build()
                torch.manual_seed(seed)
                part = PartOfCheckpoints(checkpoints, number * steps, running, state)
                task = ScoredTraining(network, self.select, self._limits(trials))
                of_trial = records.part(f"trial {number}")
                curve, stopped = self._trained(task, training, scoring, engine, part, of_trial)
                trial, running = ArchitectureTrial(**vars(suggestion), curve=curve, stopped=stopped), None
            tuner.tell(trial.score)
            trials.append(trial)
            if trial.like is None and checkpoints.writes:
                checkpoints.save(len(trials) * steps, state(None))
            _log(trials, records)

        ahead = leaders((trial.score, trial.parameters) for trial in trials)
        best = ahead[-1]
        if best is None:
            raise UserError(f"none of {len(trials)} trials has a score: all diverged; a lower learning rate may help")
        return SearchResult(
            model(best),
            found_on_the_way(enumerate(ahead, 1), model, "trial"),
            metrics={"trials": len(trials), "trained": len(trained), "score": trials[best].score},
            trials={
                "score": self.select,
                "best": best,
                "trials": [trial.plain() | {"chosen": chosen(trial.alternatives)} for trial in trials],
            },
        )

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
