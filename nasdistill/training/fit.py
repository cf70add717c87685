"""The loop of supervised training, for any task."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nasdistill.training.batches import Batches
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.history import History
from nasdistill.training.loop import Course, Fields, Resumable, Stateful
from nasdistill.training.losses import RunningLosses, checked_loss, naming_the_last_good, refuse_broken_weights
from nasdistill.training.optimizers import quicken, scale_rates
from nasdistill.training.records import Records
from nasdistill.training.resizing import train_at
from nasdistill.training.settings import LoopSettings, Select
from nasdistill.training.tasks import Task

if TYPE_CHECKING:
    from nasdistill.training.engine import Engine

log = logging.getLogger(__name__)

STEPS_BETWEEN_READINGS = 50


@dataclass(frozen=True)
class Fitted:
    """What a training led to.

    Attributes:
        history: `{"curves": {name: [[epochs done, value], ...]}, "selected_epoch": epochs done}`, plain data.
        accuracy: on the test images in percent: `last`, `best` of all evaluations (chosen by the test images, so only
            for comparison with papers that do so), and `selected`, of the epoch that the validation images chose;
            nothing where the task scores no accuracy.
        validation: of the kept weights on the validation images, see `validation_scores`.
        best_epoch: epochs done at that epoch.
        cost: `samples_per_second`, training images per second, evaluations left out; and `evaluation_share`, what
            these took of the time of both, in [0, 1].
        stopped: why it ended before its last epoch, if it did.
    """

    history: dict[str, Any]
    accuracy: dict[str, float]
    validation: dict[str, Any]
    best_epoch: int
    cost: dict[str, float]
    stopped: str | None = None


@dataclass
class Training(Course):
    """How far a training is.

    Attributes:
        evaluating: seconds that evaluations took.
        kept: the weights of the selected epoch so far.
    """

    evaluating: float = 0.0
    kept: dict[str, torch.Tensor] = field(default_factory=dict)


class Growth(Stateful, Protocol):
    """Makes the network of a training larger, see `nasdistill.growth.while_training`."""

    @property
    def last(self) -> int:
        """The number of epochs after which the network has its full size."""
        ...

    def begin(
        self,
        task: Task,
        optimizer: torch.optim.Optimizer,
        average: AveragedModel | None,
        degrees: Mapping[str, int],
        engine: Engine,
    ) -> None:
        """Take charge of what grows, which stay the same objects; called before anything is loaded."""
        ...

    def grow(self, epoch: int) -> bool:
        """Grow if it is time to, after so many epochs; whether the network is another one now."""
        ...

    def parameters(self) -> int:
        """Of the network as it is."""
        ...

    def widths(self) -> dict[str, float]:
        """Of the network as it is, as loggers name them."""
        ...


def fit(
    task: Task,
    batches: Batches,
    validation: Batches,
    test: Batches,
    settings: LoopSettings,
    engine: Engine,
    checkpoints: Checkpoints | None = None,
    records: Records | None = None,
    select: Select = "accuracy",
    growth: Growth | None = None,
) -> Fitted:
    """Minimise the sum of the losses that `task` returns; afterwards `task.network` holds the kept weights.

    A loop that was killed goes on from its last checkpoint and ends, on a CPU, with the same bits as an unbroken one.

    Args:
        checkpoints, records: where it saves and tells how it goes; a notebook needs neither.
        select: what selects the kept epoch, see `History`; of a network that grows, one at its full size.
        growth: makes the network larger between epochs.

    Raises:
        UserError: a loss is not a number; names the step and the last good checkpoint.
        Interrupted: a stop was asked for; everything is on disk.
    """
    checkpoints, records = checkpoints or Checkpoints(), records or Records()
    engine.place(task)
    optimizer = settings.optimizer.build(parameter for parameter in task.parameters() if parameter.requires_grad)
    scale_rates(optimizer, task.rate_factors())
    quicken(optimizer, norm_biases(task.network), settings.norm_bias_rate)
    average = _average_of(task.network, settings.ema) if settings.ema is not None else None
    if growth is not None:
        growth.begin(task, optimizer, average, settings.optimizer.state_degrees or {}, engine)

    def scored() -> nn.Module:  # asked anew, as growth puts another network in its place
        return average.module if average is not None else task.network

    losses, course = RunningLosses(), Training(len(batches))
    history = History(select=select, after=growth.last if growth is not None else 0)
    stopped: str | None = None
    state = Resumable(
        checkpoints,
        growth=growth,  # first: the others are of the size that it restores
        losses=losses,
        task=task,
        optimizer=optimizer,
        average=average,
        course=Fields(course),
        history=Fields(history, "curves"),
    )
    state.resume()
    module, stepper = engine.setup(task, optimizer)
    engine.diversify_random_state()

    with (
        naming_the_last_good(checkpoints),
        engine.shared_statistics(),
        records.progress(settings.epochs * course.steps_per_epoch, course.done) as progress,
    ):
        while course.epoch < settings.epochs and (stopped := _reason_to_stop(task, history, settings)) is None:
            module.train()
            task.begin_epoch(course.epoch, settings.epochs)
            train_at(task.network, settings.scale_in(course.epoch))
            clock = time.perf_counter()
            for batch in batches.epoch(course.epoch, course.position):
                rate = settings.learning_rate(course.done, course.steps_per_epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get("factor", 1.0)
                named = {
                    name: checked_loss(loss, f"task, {name!r},", type(task)) for name, loss in module(batch).items()
                }
                engine.optimizer_step(named, module, stepper, settings.clip)
                if average is not None:
                    average.update_parameters(task.network)
                course.position += 1
                course.samples += len(batch.labels) * engine.processes
                losses.add(course.done, named, task.take_reported())
                due = course.position % STEPS_BETWEEN_READINGS == 0 or course.position == course.steps_per_epoch
                if due:
                    losses.read()
                course.seconds, clock = course.seconds + time.perf_counter() - clock, time.perf_counter()
                if due:
                    records.scalars({"train/latest loss": losses.latest}, course.done)
                state.step(course.done, course.number)
                progress.step(losses.summary)

            news = losses.take_means("train/")
            engine.broadcast_buffers(task)  # what it counted, so that all processes tell and decide the same
            news |= task.end_epoch()
            news["learning rate"] = optimizer.param_groups[0]["lr"]
            course.end_epoch()
            refuse_broken_weights(task.state_dict(), course.done)
            last = course.epoch == settings.epochs or task.stop_reason() is not None
            evaluated = last or course.epoch % settings.evaluate_every == 0
            if evaluated:
                clock = time.perf_counter()
                news |= task.score(scored(), validation, test, engine)
                course.evaluating += time.perf_counter() - clock
            if growth is not None:
                news["parameters"] = growth.parameters()
            history.add(news, course.epoch)
            records.scalars(news, course.done)
            if evaluated and settings.keep == "selected" and history.selected == course.epoch:
                course.kept = {name: value.detach().clone() for name, value in scored().state_dict().items()}
            if growth is not None and growth.grow(course.epoch):
                records.scalars(growth.widths(), course.done)
                module, stepper = engine.setup(task, optimizer)
            state.step(course.done, course.number)

    train_at(task.network, 1.0)
    task.network.load_state_dict(course.kept or scored().state_dict())
    if stopped is not None:
        log.info("training ends after epoch %d: %s", course.epoch, stopped)
    return Fitted(
        history.plain(),
        history.accuracy(settings.keep),
        history.validation(settings.keep),
        history.selected,
        {
            "samples_per_second": course.samples / course.seconds,
            "evaluation_share": course.evaluating / (course.evaluating + course.seconds),
        },
        stopped,
    )


def _reason_to_stop(task: Task, history: History, settings: LoopSettings) -> str | None:
    if history.stale(settings.patience):
        better = "lower validation loss" if history.select == "loss" else "better validation score"
        return f"{settings.patience} evaluations without a {better}"
    return task.stop_reason()


def norm_biases(network: nn.Module) -> list[nn.Parameter]:
    """Those of batch norms."""
    return [part.bias for part in network.modules() if isinstance(part, _BatchNorm) and part.affine]


def _average_of(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a network's weights and statistics, which begins at the first step."""
    blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=blend, use_buffers=True)
