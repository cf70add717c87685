"""Search by gradient in one training: half of the images train a supernet's weights, the other half its architecture.

Source: Liu et al. 2019, DARTS, algorithm 1.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.augmentations import mixing
from nasdistill.data.loaders import ImageBatches, training_batches
from nasdistill.data.seeds import derived_seed, seeded
from nasdistill.data.splits import stratified
from nasdistill.errors import UserError
from nasdistill.search.bilevel import as_constants
from nasdistill.search.settings import GradientOptions
from nasdistill.search.strategies import SearchResult
from nasdistill.search.weight_sharing import WeightSharing
from nasdistill.training.batches import Batch
from nasdistill.training.history import History
from nasdistill.training.loop import Course, Fields, Resumable, Stateful
from nasdistill.training.losses import RunningLosses, naming_the_last_good
from nasdistill.training.optimizers.standard import SGD, Adam
from nasdistill.training.processes import all_reduce_mean, refuse_difference

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.given import Given
    from nasdistill.training.engine import Engine

STEPS_BETWEEN_READINGS = 50
CURVES = {
    "training": "train/loss",
    "validation": "validation/loss",
    "training accuracy": "train/accuracy",
    "validation accuracy": "validation/accuracy",
}
"""Names of the curves of what a step measures on each half; all else keeps its name."""

Gradients = Sequence[torch.Tensor | None]


class Learner:
    """What one search trains, and how; subclasses define what an architecture is.

    Attributes:
        seen: loss and accuracy in percent on each half in the last step, by the names in `CURVES`.
        stopped: whether the search ends before its last epoch.
        weight_batches, architecture_batches: of either half of the images; `learn` sets them.
    """

    weight_batches: ImageBatches
    architecture_batches: ImageBatches

    def __init__(
        self, options: GradientOptions, supernet: WeightSharing, engine: Engine, seed: int, exact: bool
    ) -> None:
        """`exact` computes in 32 bits, whatever the engine's precision."""
        engine.place(supernet.train())
        self.supernet = supernet
        self.device = engine.device
        self.seed = seed
        self.weights, self.alphas = supernet.weights(), supernet.alphas()
        sgd = SGD(lr=options.lr, momentum=options.momentum, nesterov=False, weight_decay=options.weight_decay)
        adam = Adam(betas=(0.5, 0.999), weight_decay=options.alpha_weight_decay)
        self.sgd = sgd.build(self.weights)
        self.adam = adam.build(self.alphas) if self.alphas else None
        self.clip = options.clip
        self.precision = contextlib.nullcontext() if exact else engine.autocast()
        self.seen: dict[str, torch.Tensor] = {}
        self.stopped = False

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch, also where the search goes on in the middle of it."""

    def step(self, number: int, weight_batch: Batch, architecture_batch: Batch | None = None) -> None:
        """The alphas, if any, learn from `architecture_batch`, then the weights from `weight_batch`."""
        self.seen = {}
        if self.adam is not None and architecture_batch is not None:
            optimizer_step(self.adam, self.alphas, self.alpha_gradients(number, weight_batch, architecture_batch))
        optimizer_step(
            self.sgd, self.weights, gradients_of(self.loss("training", weight_batch, number), self.weights), self.clip
        )

    def alpha_gradients(self, number: int, weight_batch: Batch, architecture_batch: Batch) -> Gradients:
        """The gradient for the alphas; here to first order, which takes the present weights for the optimal ones."""
        with as_constants(self.weights):
            return gradients_of(self.loss("validation", architecture_batch, number), self.alphas)

    def loss(self, half: str, batch: Batch, number: int) -> torch.Tensor:
        """The supernet's cross-entropy on a batch of the half named as in `CURVES`, in the step of that number."""
        with self.precision:
            logits = self.logits(half, batch.images, number)
        value = functional.cross_entropy(logits.float(), batch.labels)
        self.seen[half] = value.detach()
        self.seen[f"{half} accuracy"] = 100 * (logits.argmax(dim=1) == batch.labels).float().mean()
        return value

    def logits(self, half: str, images: torch.Tensor, number: int) -> torch.Tensor:
        """The supernet's logits in that step."""
        logits: torch.Tensor = self.supernet(images)
        return logits

    def noise(self, half: str, number: int) -> AbstractContextManager[int]:
        """What is drawn in this block is a function of seed, half and step, the same in all processes."""
        return seeded(derived_seed(self.seed, half, number), self.device)

    def curves(self, epoch: int) -> dict[str, float]:
        """What the architecture is after so many epochs, 0 included, by the names of curves."""
        raise NotImplementedError(type(self).__name__)

    def found(self) -> SearchResult:
        """The model in the end, and what to tell of it beside curves."""
        raise NotImplementedError(type(self).__name__)

    def parts(self) -> dict[str, Stateful | None]:
        """What a checkpoint holds of it, by name."""
        return {"supernet": self.supernet, "sgd": self.sgd, "adam": self.adam}


def learn(learner: Learner, options: GradientOptions, given: Given) -> SearchResult:
    """The loop: goes on from the checkpoints if there are any, see `Strategy.search`."""
    engine, checkpoints, records = given.engine, given.checkpoints, given.records
    learner.weight_batches, learner.architecture_batches = halves(given.data, options.batch_size, engine, learner.seed)
    used = [learner.weight_batches, *([learner.architecture_batches] if learner.alphas else [])]
    losses, history, course = RunningLosses(), History(), Course(min(map(len, used)))
    state = Resumable(
        checkpoints,
        losses=losses,
        **learner.parts(),
        course=Fields(course),
        history=Fields(history, "curves"),
    )
    if not state.resume():
        history.add(learner.curves(0), 0)
    if learner.adam is not None:  # a search that goes on has other steps than the one that it loaded
        learner.adam.param_groups[0]["lr"] = options.alpha_rate(course.steps_per_epoch)
    engine.diversify_random_state()

    with (
        naming_the_last_good(checkpoints),
        engine.shared_statistics(),
        records.progress(options.epochs * course.steps_per_epoch, course.done) as progress,
    ):
        while course.epoch < options.epochs and not learner.stopped:
            learning_rate = learner.sgd.param_groups[0]["lr"] = options.learning_rate(course.epoch)
            learner.begin_epoch(course.epoch)
            clock = time.perf_counter()
            for batches in zip(*(half.epoch(course.epoch, course.position) for half in used), strict=False):
                learner.step(course.done, *batches)
                course.position += 1
                course.samples += sum(len(batch.labels) for batch in batches) * engine.processes
                losses.add(course.done, learner.seen)
                if course.position % STEPS_BETWEEN_READINGS == 0 or course.position == course.steps_per_epoch:
                    losses.read()
                course.seconds, clock = course.seconds + time.perf_counter() - clock, time.perf_counter()
                state.step(course.done, course.number)
                progress.step(f"epoch {course.epoch + 1}")

            course.end_epoch()
            refuse_difference(learner.alphas or learner.weights[:1], f"the architecture after epoch {course.epoch}")
            news = {CURVES.get(name, name): mean for name, mean in losses.take_means().items()}
            news |= {"learning rate": learning_rate, **learner.curves(course.epoch)}
            history.add(news, course.epoch)
            records.scalars(news, course.done)
            state.step(course.done, course.number)

        metrics: dict[str, float] = {"epochs": course.epoch}
        if course.seconds:  # none are left where a search was killed after its last epoch
            metrics["samples_per_second"] = course.samples / course.seconds
        course.samples, course.seconds = 0, 0.0  # what goes on from here counts anew, and is the same each time
        state.save(course.done, course.number + 1)
        found = learner.found()
    return replace(found, history={**found.history, "curves": history.curves}, metrics=found.metrics | metrics)


def halves(data: Data, batch_size: int, engine: Engine, seed: int) -> tuple[ImageBatches, ImageBatches]:
    """Batches of the training images that train the weights, and of those that train or score the architecture.

    Both are drawn per class; cutout is left out, as published for DARTS, and so are erasing and what mixes labels: an
    architecture is evaluated on images as they are.

    Raises:
        UserError: there are too few images.
    """
    left_out = {"cutout", "erasing", *mixing(data.augmentations)}
    augmentations = tuple(item for item in data.augmentations if item.registered_name not in left_out)
    one, other = stratified(data.train.labels, len(data.train) // 2, seed)
    if len(one) < 2:
        raise UserError(f"a search needs at least 4 training images, got {len(data.train)}")

    def batches(indices: torch.Tensor, half: str) -> ImageBatches:
        part = replace(data, train=data.train.subset(indices), augmentations=augmentations)
        return training_batches(part, batch_size, derived_seed(seed, half), engine)

    return batches(one, "weights"), batches(other, "architecture")


def gradients_of(loss: torch.Tensor, parameters: Sequence[nn.Parameter]) -> Gradients:
    """The gradient for each parameter, averaged over the processes; None for those that the loss does not read."""
    return all_reduce_mean(torch.autograd.grad(loss, parameters, allow_unused=True))


def optimizer_step(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], gradients: Gradients, clip: float = math.inf
) -> None:
    """One step, with a gradient cut to the norm `clip`; parameters that have none, off the drawn path, stay."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and gradient.stride() != parameter.stride():
            # Fused kernels read both as they lie in memory; `backward` would have seen to that.
            gradient = torch.empty_like(parameter).copy_(gradient)
        parameter.grad = gradient
    if clip < math.inf:
        nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
