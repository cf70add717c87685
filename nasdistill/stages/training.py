"""What stages that train a network have in common: the images, the loop, and the payload."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nasdistill.component import Options
from nasdistill.errors import SpecError, found_at
from nasdistill.stages.base import Context, Inputs, Outcome, Place, Stage, path_of
from nasdistill.stages.growing import GROWTH
from nasdistill.stages.mistakes import write_confusion, write_mistakes
from nasdistill.stages.networks import trained_on
from nasdistill.storage import write_json
from nasdistill.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.data import loaders
    from nasdistill.data.base import Data
    from nasdistill.distill.objectives import Objective
    from nasdistill.distill.teacher import Teacher
    from nasdistill.growth.while_training import GrowthWhileTraining
    from nasdistill.models.base import NetworkSpec
    from nasdistill.training.batches import Batches
    from nasdistill.training.settings import Balance, LoopSettings
    from nasdistill.training.tasks import Task

log = logging.getLogger(__name__)

HISTORY = "history.json"

FORWARD = 1 / 3
"""Of a training step's arithmetic, as the backward pass has two products for each of the forward pass."""
LARGE, SMALL = 0.25, 0.1
"""Shares of a training's time: one for evaluations that is worth a word, and one that is not."""


class ShownOptions(Options):
    """Which attention maps a stage writes for the report."""

    show: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        max_length=12,
        description="numbers of the test images whose attention maps the report shows, none if empty; the first of "
        "each of six classes if left out",
    )


class TrainsOnLabels(TrainingSettings, Stage):
    """Base of the stages that train a network on labels, with `train_task`."""

    def is_scored(self) -> bool:
        return True

    def score_curve(self) -> str:
        from nasdistill.training.history import SCORE_OF

        return SCORE_OF[self.select]

    def replicate_number(self) -> int:
        return self.replicate


def training_data(settings: LoopSettings, context: Context) -> Data:
    """The stage's data, with no more training images than the settings want.

    Raises:
        SpecError: at `images_per_class`: a class has fewer; at `scales`: the data are texts.
    """
    from nasdistill.data.preparation import with_few_images

    if settings.scales is not None and context.data.words is not None:
        raise SpecError("texts are numbers of tokens, and between two of them is no third", ("scales",))
    if settings.images_per_class is None:
        return context.data
    with found_at("images_per_class"):
        return with_few_images(context.data, settings.images_per_class, context.seed)


def foreseen(settings: LoopSettings, spec: NetworkSpec | None, context: Context) -> NetworkSpec | None:
    """The spec of what a training will write, told from that of the network; None where only the run will know.

    Raises:
        SpecError: at `scales`: the network cannot read images of such a size.
    """
    from nasdistill.models.foresight import check_scale

    if spec is None:
        return None
    for scale in settings.scales or ():
        with found_at("scales"):
            check_scale(spec.model_dump_json(), scale)
    return trained_on(spec, training_data(settings, context))


def batches_to_train_on(
    settings: LoopSettings,
    context: Context,
    views: int | None = None,
    balance: Balance = "none",
    unlabelled: bool = False,
) -> loaders.ImageBatches:
    """Shuffled batches of `training_data`, as long an epoch as the settings want.

    Args:
        unlabelled: with the images without labels, where the data set has any.
        views: different epochs, see `nasdistill.data.loaders.ImageBatches`.
        balance: of classes, see there.
    """
    from nasdistill.data.base import joined
    from nasdistill.data.loaders import training_batches

    data = training_data(settings, context)
    further = data.unlabelled if unlabelled else None
    if further is not None:
        data = replace(data, train=joined(data.train, further))
        log.info("trains on %d more images, without labels", len(further))
    batches = training_batches(
        data,
        settings.batch_size,
        context.replicate_seed,
        context.engine,
        settings.augment,
        views=views,
        epoch_images=len(context.data.train) + len(further or ()) if settings.full_epochs else None,
        balance=balance,
    )
    if settings.images_per_class is not None:
        log.info(
            "trains on %d of %d images, %d of each class; an epoch sees %d",
            *(len(batches.labels), len(context.data.train), settings.images_per_class, batches.samples),
        )
    if balance != "none":
        sizes = sorted(size for size in batches.labels.bincount().tolist() if size)
        if sizes[0] < sizes[-1]:
            log.info("balance by %s: the classes have %d to %d training images", balance, sizes[0], sizes[-1])
        else:
            log.warning("all classes have %d training images, so balance by %s has nothing to do", sizes[0], balance)
    return batches


def advice_on_evaluations(settings: LoopSettings, learned: int, scored: int) -> str | None:
    """What to say beforehand of evaluations that take much of a training's time; None of others.

    They take about s / 3 / (s / 3 + k n) of it, for s images scored every k epochs of n images. Two are left at least.

    Args:
        learned: images of an epoch.
        scored: images of an evaluation.
    """

    def share(every: int) -> float:
        return FORWARD * scored / (FORWARD * scored + every * learned)

    seldom = min(settings.epochs // 2, math.ceil(FORWARD * scored * (1 / SMALL - 1) / learned))
    if share(settings.evaluate_every) <= LARGE or seldom <= settings.evaluate_every:
        return None
    return (
        f"evaluations, of {scored} images each, take about {share(settings.evaluate_every):.0%} of this training's "
        f"time; with `evaluate_every: {seldom}` about {share(seldom):.0%}, and fewer epochs to select from"
    )


def train_task(
    task: Task,
    spec: NetworkSpec,
    settings: TrainingSettings,
    context: Context,
    batches: Batches | None = None,
    network: nn.Module | None = None,
    growth: GrowthWhileTraining | None = None,
) -> Outcome:
    """Train `task.network` on the stage's data, write it with its history and test confusion, and say what it scores.

    Args:
        spec: of the network; the data's class names and normalisation are written into it.
        batches: what it trains on; by default the training images as the settings say.
        network: what is written, where `task.network` is that within something else.
        growth: of the network while it trains.
    """
    import torch

    from nasdistill.data.loaders import evaluation_batches
    from nasdistill.models.base import Network, save_network
    from nasdistill.models.inspection import described
    from nasdistill.training.fit import fit
    from nasdistill.training.metrics import logits_of, score

    data, engine = context.data, context.engine
    if batches is None:
        batches = batches_to_train_on(settings, context, balance=settings.balance)
    validation, test = (evaluation_batches(part, data, engine) for part in (data.validation, data.test))
    if advice := advice_on_evaluations(settings, batches.samples, validation.samples + test.samples):
        log.info("%s", advice)
    torch.manual_seed(context.replicate_seed)  # dropout must not depend on which stages this process ran before
    fitted = fit(
        task,
        batches,
        validation,
        test,
        settings,
        engine,
        context.checkpoints(),
        context.records,
        settings.select,
        growth,
    )
    if growth is not None:
        spec = growth.spec
        write_json(context.folder / GROWTH, growth.plain())
    logits, truth = logits_of(task.network, test, engine)
    found = score(logits, truth)
    written, network = trained_on(spec, data), task.network if network is None else network
    save_network(context.folder, written, network)
    write_json(context.folder / HISTORY, fitted.history)
    write_confusion(context.folder, data.classes, found)
    write_mistakes(context.folder, data.test, data, engine, logits)
    return Outcome(
        {
            "accuracy": fitted.accuracy,
            **found.plain(),
            "validation": fitted.validation,
            "best_epoch": fitted.best_epoch,
            **described(network, spec.reads, timed=True),
            **({} if fitted.stopped is None else {"stopped": fitted.stopped}),
            **fitted.cost,
        },
        Network(written, network),
    )


def write_attention(
    show: Sequence[int],
    context: Context,
    network: nn.Module,
    teachers: Sequence[Teacher] = (),
    objectives: Sequence[Objective] = (),
    points: Sequence[str] | None = None,
) -> dict[str, float]:
    """Write the attention maps of a network, beside those of its teachers if it has any; what there is to tell of them.

    Args:
        show: places in the test set of the images.
        points: of a network without a teacher, see `compare_attention`.
    """
    from nasdistill.distill.attention_maps import ATTENTION, compare_attention

    found = compare_attention(network, teachers, objectives, show, context.data, context.engine, points)
    if found is None:
        return {}
    write_json(context.folder / ATTENTION, found)
    return {} if found["similarity"] is None else {"attention_similarity": found["similarity"]}


def validation_score(inputs: Inputs, field: Place) -> tuple[float, float, str]:
    """How good a network is that `train_task` wrote: its validation score, minus its loss, and what the score is of.

    Raises:
        SpecError: at `field`: the artifact there tells nothing of validation images.
    """
    found = inputs[field].manifest.metrics.get("validation")
    if found is None:
        problem = (
            f"{inputs[field].manifest.stage!r} was not trained here, so nobody knows its score on validation images"
        )
        raise SpecError(problem, path_of(field))
    return found["score"], -found["loss"], found.get("of", "accuracy")
