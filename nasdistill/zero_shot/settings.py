"""How the loop of zero-shot transfer goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nasdistill.component import Facts, Options
from nasdistill.data.augmentations import BatchAugmentation, EpochAugmentation, PixelAugmentation
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf, registry

StepsOverTime = int | dict[float, int]
"""A number of steps, or numbers by the fraction of the run from which on they hold."""

FASTS = {"name": "adam", "lr": 0.02, "betas": (0.5, 0.999)}
"""The optimizer of common weights."""

MOST_WINDOWS = 10_000
"""Each of them is a point of every curve, in each checkpoint and in the report."""


class TransferSettings(Options):
    """A mixin of the stage; `transfer` reads nothing else. The defaults are the published ones for CIFAR-10."""

    pseudo_batches: int = Field(
        80_000,
        gt=0,
        description="outer iterations, each with latents of its own; published: 80000 for CIFAR-10, 50000 for SVHN",
    )
    batch_size: int = Field(128, gt=1, description="pseudo-images of an iteration, over all devices together")
    generator_steps: StepsOverTime = Field(
        1,
        description="steps of the generator in an iteration; or by fraction of the run, e.g. {0: 1, 0.33: 2, 0.67: 4}",
    )
    student_steps: StepsOverTime = Field(
        10, description="steps of the student on the images of the generator just updated; or by fraction of the run"
    )
    optimizer: Annotated[Any, ComponentOf("optimizers")] = Field(
        {"name": "adam", "lr": 2e-3}, validate_default=True, description="what updates the student"
    )
    generator_optimizer: Annotated[Any, ComponentOf("optimizers")] = Field(
        {"name": "adam", "lr": 1e-3},
        validate_default=True,
        description="what updates the generator; the paper says 2e-3, its code has 1e-3, about 2 points better",
    )
    schedule: Annotated[Any, ComponentOf("schedules")] = Field(
        "cosine", validate_default=True, description="how the student's learning rate falls, once per iteration"
    )
    generator_schedule: Annotated[Any, ComponentOf("schedules")] = Field(
        "cosine", validate_default=True, description="how the generator's falls"
    )
    clip: float | None = Field(
        5.0, gt=0, description="largest norm of the gradients of each network; longer ones are scaled"
    )
    start_over_every: int = Field(
        0,
        ge=0,
        description="iterations after which the generator is drawn anew: 1 for each pseudo-batch, as in CMI; 0 lets it "
        "learn over all of them, as published in 2019",
    )
    adapt: Literal["none", "fomaml", "reptile"] = Field(
        "none",
        description="where the generator's steps on a pseudo-batch start: where the last ones ended (none), or at "
        "common weights, which learn by the steps' gradients (fomaml, the default of Fast's code) or by how far these "
        "went (reptile)",
    )
    adapt_optimizer: Annotated[Any, ComponentOf("optimizers")] = Field(
        FASTS,
        validate_default=True,
        description="what updates the common weights, its rate by `generator_schedule`; in Fast's code Adam, with the "
        "generator's rate times its steps: 0.002 times 10",
    )
    latent_speed: float = Field(
        0,
        ge=0,
        description="let the latents of a pseudo-batch learn beside the generator, under Adam this many times as fast; "
        "5 in Fast with 10 steps, 1 in CMI; 0 leaves them as they were drawn, as published in 2019",
    )
    images: Literal["last", "best"] = Field(
        "last",
        description="which images of a pseudo-batch the student sees and the bank remembers: those after the "
        "generator's last step, as published in 2019, or those that a step had the least loss on, as in the code of "
        "CMI, Fast and NAYER",
    )
    bank: int = Field(
        0,
        ge=0,
        description="pseudo-images that are remembered, the latest, in 8 bits; the student's steps draw from them, but "
        "for the first of each iteration, which sees the images just made. 0 remembers none, as published in 2019",
    )
    bank_every: int = Field(1, gt=0, description="iterations between pseudo-batches that the bank takes in")
    bank_share: float = Field(
        1.0, gt=0, le=1, description="share of a batch that comes from the bank; the rest are images just made"
    )
    augmentations: list[Annotated[Any, ComponentOf("augmentations")]] = Field(
        [],
        validate_default=True,
        description="what becomes of pseudo-images in each step of generator and student before the networks see them, "
        "e.g. [{name: crop, padding: 4}, flip] as in CMI, Fast and NAYER; published in 2019: nothing",
    )
    evaluate_every: int = Field(
        1000,
        gt=0,
        description="iterations between evaluations on the test images, if there are any; they select nothing",
    )
    watch_every: int = Field(
        50, gt=0, description="iterations that each point of the curves averages, and between checks for a collapse"
    )
    collapse_below: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="a collapse is reported where the entropy of the student's or the teacher's predictions in a "
        "pseudo-batch is below this fraction of its largest value; with 10 classes 0.1 is 97 % of images "
        "in one class",
    )
    on_collapse: Literal["warn", "stop", "restart"] = Field(
        "warn", description="what to do then: warn, end there, or go on with a generator drawn anew"
    )
    pictures: int = Field(8, ge=0, le=50, description="grids of pseudo-images over the run, for the report")

    @field_validator("augmentations")
    @classmethod
    def _of_single_normalised_images(cls, augmentations: list[Any]) -> list[Any]:
        for number, each in enumerate(augmentations):
            for kind, why in (
                (PixelAugmentation, "changes colours of 8 bits, and pseudo-images are no such images"),
                (EpochAugmentation, "counts epochs, and here are none"),
                (BatchAugmentation, "mixes labels, and pseudo-images have none"),
            ):
                if isinstance(each, kind):
                    raise SpecError(f"{each.registered_name!r} {why}", (number,))
        return augmentations

    @model_validator(mode="after")
    def _steps_make_sense(self) -> TransferSettings:
        for name in ("generator_steps", "student_steps"):
            steps = _by_fraction(getattr(self, name))
            if 0 not in steps:
                raise SpecError("the steps from the start on are missing; write {0: 1, 0.5: 2} or the like", (name,))
            if not all(0 <= fraction < 1 for fraction in steps):
                raise SpecError(f"fractions of the run lie from 0 to below 1, got {max(steps):g}", (name,))
            if min(steps.values()) < 1:
                raise SpecError(f"every iteration takes at least 1 step, got {min(steps.values())}", (name,))
        least = -(-self.pseudo_batches // MOST_WINDOWS)
        for name in ("watch_every", "evaluate_every"):
            if getattr(self, name) < least:
                problem = f"curves of at most {MOST_WINDOWS} points are kept; for {self.pseudo_batches} pseudo-batches"
                raise SpecError(f"{problem} at least {least}, got {getattr(self, name)}", (name,))
        if 0 < self.bank < self.batch_size:
            problem = f"a bank of {self.bank} images holds no pseudo-batch of {self.batch_size}"
            raise SpecError(problem, ("bank",))
        for name in ("schedule", "generator_schedule"):
            try:
                getattr(self, name).check(self.pseudo_batches)
            except SpecError as error:
                raise SpecError(error.problem, (name, *error.path)) from None
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if not self.collapse_below:
            for name in self.differs("on_collapse"):
                yield name, "with `collapse_below: 0` nothing counts as a collapse"
        if not facts.images:
            for name in self.differs("evaluate_every"):
                yield name, "there are no test images"
        if self.adapt == "none" and self.adapt_optimizer != registry("optimizers").parse(FASTS):
            yield "adapt_optimizer", "with `adapt: none` there are no common weights"
        if not self.bank:
            for name in self.differs("bank_every", "bank_share"):
                yield name, "with `bank: 0` nothing is remembered"
        elif set(_by_fraction(self.student_steps).values()) == {1}:
            yield "bank", "the student takes one step in an iteration, which sees the images just made"

    def steps_at(self, done: int) -> tuple[int, int]:
        """Steps of generator and student in the iteration that comes after `done` ones."""
        fraction = done / self.pseudo_batches
        return _at(self.generator_steps, fraction), _at(self.student_steps, fraction)

    def rates_at(self, done: int) -> tuple[float, float]:
        """The learning rates of generator and student in the iteration that comes after `done` ones."""
        generator, student = (
            optimizer.lr * schedule.factor(done / self.pseudo_batches, self.pseudo_batches)
            for optimizer, schedule in (
                (self.generator_optimizer, self.generator_schedule),
                (self.optimizer, self.schedule),
            )
        )
        return generator, student

    def pictured(self, done: int) -> bool:
        """Whether a grid is taken after `done` iterations: evenly, the last one at the end."""
        return done * self.pictures // self.pseudo_batches > (done - 1) * self.pictures // self.pseudo_batches


def _by_fraction(steps: StepsOverTime) -> dict[float, int]:
    return steps if isinstance(steps, dict) else {0.0: steps}


def _at(steps: StepsOverTime, fraction: float) -> int:
    steps = _by_fraction(steps)
    return steps[max(start for start in steps if start <= fraction)]
