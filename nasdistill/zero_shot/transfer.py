"""Adversarial belief matching: a generator finds where student and teacher differ, the student learns it there."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import torch

from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import packed
from nasdistill.errors import found_at
from nasdistill.training.batches import Batch, Batches
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.loop import Fields, Resumable
from nasdistill.training.losses import RunningLosses, naming_the_last_good, refuse_broken_weights
from nasdistill.training.metrics import evaluate
from nasdistill.training.modes import frozen
from nasdistill.training.records import Records
from nasdistill.zero_shot.bank import Bank
from nasdistill.zero_shot.collapse import AGREEMENT, Watch, Window
from nasdistill.zero_shot.generation import Generation
from nasdistill.zero_shot.life import Life
from nasdistill.zero_shot.pictures import as_pixels
from nasdistill.zero_shot.settings import TransferSettings

if TYPE_CHECKING:
    from nasdistill.training.engine import Engine

log = logging.getLogger(__name__)
TEST = "test/accuracy"
SHOWN = 32
"""Pseudo-images of a picture."""


@dataclass
class Course:
    """How far a transfer is and what there is to tell of it; plain data and tensors, so that a checkpoint holds it.

    Attributes:
        done: iterations.
        learned: pseudo-images that the student took a step on, over all processes, repetitions included.
        seconds: that this took, evaluations left out.
        curves: name to [[iterations done, value], ...].
        over_time: test accuracy after so many of the seconds, [[seconds, %], ...].
        pictures: `done`, the `pixels` of that iteration's first images, uint8, [up to 32, C, H, W], and `histograms`,
            int64, [2, classes]: how often student and teacher answered each class since the picture before.
        collapsed: whether the window before this one had collapsed.
        collapses: iterations done where a collapse was named.
        stopped: why it ended before its last iteration, if it did.
    """

    done: int = 0
    learned: int = 0
    seconds: float = 0.0
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    over_time: list[list[float]] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    collapsed: bool = False
    collapses: list[int] = field(default_factory=list)
    stopped: str | None = None

    def tell(self, news: Mapping[str, float], records: Records) -> None:
        """Add to the curves, here and in TensorBoard."""
        for name, value in news.items():
            self.curves.setdefault(name, []).append([self.done, value])
        records.scalars(news, self.done)

    @property
    def summary(self) -> str:
        """For a progress bar: the latest agreement and test accuracy, where there are any."""
        shown = {"agreement": AGREEMENT, "test accuracy": TEST}
        latest = [(name, self.curves[curve][-1][1]) for name, curve in shown.items() if curve in self.curves]
        return ", ".join(f"{name} {value:.1f} %" for name, value in latest)


def transfer(
    task: Distillation,
    generation: Generation,
    settings: TransferSettings,
    engine: Engine,
    seed: int,
    test: Batches | None = None,
    checkpoints: Checkpoints | None = None,
    records: Records | None = None,
) -> Course:
    """Teach `task.network` on pseudo-images alone; afterwards it holds the last weights.

    In each iteration latents are drawn once. The generator takes its steps on them, through both networks; then the
    student takes its steps on the images that these led to, about which the teachers are asked once, or after the first
    step on what a bank remembers. The student is in training mode throughout. A transfer that was killed goes
    on from its last checkpoint and ends, on a CPU, with the same bits as an unbroken one.

    Source: Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), algorithm 1, with
    the order of steps of its released code.

    Args:
        task: the student's losses.
        generation: the generator's; its student is `task.network`.
        test: scored along the way; selects nothing.
        checkpoints, records: where it saves and tells how it goes; a notebook needs neither.

    Raises:
        UserError: a loss is not a number; names the iteration and the last good checkpoint.
        Interrupted: a stop was asked for; everything is on disk.
    """
    checkpoints, records = checkpoints or Checkpoints(), records or Records(title="transfer")
    engine.place(task)
    engine.place(generation)
    student_optimizer = settings.optimizer.build(p for p in task.parameters() if p.requires_grad)
    generator_optimizer = settings.generator_optimizer.build(generation.parameters())
    learning, student_stepper = engine.setup(task, student_optimizer)
    making, generator_stepper = engine.setup(generation, generator_optimizer)
    course, losses = Course(), RunningLosses()
    clip = math.inf if settings.clip is None else settings.clip  # the norms are curves, clipped or not
    watch = Watch(generation.classes)
    engine.place(watch)
    life = Life(generation, generator_optimizer, settings, seed, engine.processes)
    with found_at("bank"):
        bank = Bank(settings.bank, settings.bank_share, generation, engine, checkpoints) if settings.bank else None
    state = Resumable(
        checkpoints,
        losses=losses,
        task=task,
        generation=generation,
        student_optimizer=student_optimizer,
        generator_optimizer=generator_optimizer,
        watch=watch,
        course=Fields(course),
        life=life,
        bank=bank,
    )
    state.resume()
    engine.diversify_random_state()

    with (
        naming_the_last_good(checkpoints),
        engine.shared_statistics(),
        records.progress(settings.pseudo_batches, course.done) as progress,
    ):
        while course.done < settings.pseudo_batches and course.stopped is None:
            clock = time.perf_counter()
            generator_steps, student_steps = settings.steps_at(course.done)
            rates = settings.rates_at(course.done)
            for optimizer, rate in zip((generator_optimizer, student_optimizer), rates, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate
            share = {"rank": engine.fabric.global_rank, "processes": engine.processes}
            latents, targets = (
                drawn.to(engine.device, non_blocking=True) for drawn in generation.sample(seed, course.done, **share)
            )
            learning.train()
            making.train()
            task.begin_epoch(course.done, settings.pseudo_batches)  # drop path rises with the iterations
            life.begin(course.done)

            with frozen(task):
                for _ in range(generator_steps):
                    # One that starts over makes the images of this process alone, so no other's gradients are its own.
                    with engine.fabric.no_backward_sync(making, enabled=generation.component.starts_over):
                        generator_losses = making(latents, targets)
                        generator_norm = engine.optimizer_step(generator_losses, making, generator_stepper, clip)
            life.end(course.done)
            with engine.autocast():
                images = generation.outcome(latents, targets)
            if bank is not None and course.done % settings.bank_every == 0:
                bank.admit(images)
            place = (seed, course.done, engine.fabric.global_rank)
            for step, batch in enumerate(_lessons(images, student_steps, bank, task, generation, engine, *place)):
                student_losses = learning(batch)
                if step == 0:
                    watch.add(task.answers, batch.taught["0/logits"])
                student_norm = engine.optimizer_step(student_losses, learning, student_stepper, clip)

            course.done += 1
            course.learned += student_steps * len(images) * engine.processes
            named = {
                **{f"generator/{name}": value for name, value in generator_losses.items()},
                **{f"student/{name}": value for name, value in student_losses.items()},
            }
            assert generator_norm is not None
            assert student_norm is not None
            norms = {"gradient norm/generator": generator_norm, "gradient norm/student": student_norm}
            losses.add(course.done, named, {**norms, **task.take_reported()})
            over = course.done == settings.pseudo_batches
            if over or course.done % settings.watch_every == 0:
                losses.read()
                refuse_broken_weights(task.state_dict(), course.done)
                course.seconds, clock = course.seconds + time.perf_counter() - clock, time.perf_counter()
                window = watch.window()
                named_rates = dict(zip(("learning rate/generator", "learning rate/student"), rates, strict=True))
                course.tell({**losses.take_means(), **window.figures, **named_rates}, records)
                _act_on_collapse(window, course, life, settings)
                over = over or course.stopped is not None
            course.seconds += time.perf_counter() - clock
            if settings.pictured(course.done):
                pixels = as_pixels(images[:SHOWN], generation.normalisation)
                course.pictures.append(
                    {"done": course.done, "pixels": pixels, "histograms": watch.take_histograms().cpu()}
                )
                records.images("pseudo-images", pixels, course.done)
                for who, counts in zip(("student", "teacher"), course.pictures[-1]["histograms"].tolist(), strict=True):
                    records.histogram(f"answers/{who}", counts, course.done)
            if test is not None and (over or course.done % settings.evaluate_every == 0):
                engine.broadcast_buffers(task)
                accuracy = evaluate(task.network, test, engine).accuracy
                course.tell({TEST: accuracy}, records)
                course.over_time.append([course.seconds, accuracy])
            state.step(course.done)
            progress.step(course.summary)
    return course


def _lessons(
    images: torch.Tensor,
    steps: int,
    bank: Bank | None,
    task: Distillation,
    generation: Generation,
    engine: Engine,
    *place: int,
) -> Iterator[Batch]:
    """What the student learns from, step by step: first the images just made, then these again or what the bank mixes.

    The teachers are asked anew where a step sees other images than the one before.
    """
    others = bank.mixed(images, steps - 1, *place) if bank is not None else repeat(images, steps - 1)
    batch = None
    for next_images in chain([images], others):
        seen = generation.augmented(next_images)
        if batch is None or seen is not batch.images:
            with torch.no_grad(), engine.autocast():
                outputs = task.teacher_ensemble(seen)
            batch = Batch(seen, outputs[0].logits.argmax(dim=1), torch.empty(0), packed(outputs))
        yield batch


def _act_on_collapse(
    window: Window,
    course: Course,
    life: Life,
    settings: TransferSettings,
) -> None:
    """Name a collapse when it starts, and do what the settings say."""
    reason = window.collapsed(settings.collapse_below)
    starts = reason is not None and not course.collapsed
    if reason is None and course.collapsed:
        log.warning("the collapse is over after %d pseudo-batches", course.done)
    course.collapsed = reason is not None
    if not starts:
        return
    course.collapses.append(course.done)
    then = {"warn": "it goes on", "stop": "it ends here", "restart": "the generator starts over"}
    problem = f"collapse after {course.done} pseudo-batches: {reason}"
    log.warning("%s; %s", problem, then[settings.on_collapse])
    if settings.on_collapse == "stop":
        course.stopped = problem
    elif settings.on_collapse == "restart":
        life.start_over(course.done)
