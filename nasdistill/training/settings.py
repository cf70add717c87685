"""How a network is trained: the options that every stage with a supervised loop shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nasdistill.component import Facts, Options
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf

Balance = Literal["none", "sampling", "loss"]
"""How classes of unequal size are made to count the same, see `nasdistill.data.loaders.ImageBatches`."""
Score = Literal["accuracy", "balanced-accuracy"]
"""A score on the validation images, in percent."""
Select = Literal[Score, "loss"]
"""What selects the kept epoch on the validation images: a score, or the loss."""
Keep = Literal["selected", "last"]
"""The weights that are kept: of the epoch that the validation images select, or the last."""


class LoopSettings(Options):
    """A mixin of stages; `fit` reads nothing else."""

    epochs: int = Field(30, gt=0, description="passes over the training images")
    batch_size: int = Field(128, gt=0, description="images per step, over all devices together")
    optimizer: Annotated[Any, ComponentOf("optimizers")] = Field(
        "sgd", validate_default=True, description="what updates the weights"
    )
    schedule: Annotated[Any, ComponentOf("schedules")] = Field(
        "cosine", validate_default=True, description="how the learning rate falls from its peak"
    )
    warmup: float = Field(
        0.0, ge=0, description="epochs in which the learning rate rises linearly, multiplying the schedule"
    )
    norm_bias_rate: float = Field(
        1.0,
        gt=0,
        description="what the learning rate of batch norms' biases is multiplied by; their weight decay stays as it is",
    )
    clip: float | None = Field(5.0, gt=0, description="largest norm of all gradients together; longer ones are scaled")
    scales: list[Annotated[float, Field(gt=0)]] | None = Field(
        None,
        min_length=1,
        description="scales at which the network reads the images while it trains, each for an equal share of the "
        "epochs, e.g. [0.6, 0.8, 1]: small images take less time. It is evaluated at 1",
    )
    augment: bool = Field(True, description="augment the training images as the data set says")
    images_per_class: int | None = Field(
        None,
        gt=0,
        description="train on only this many images of each class, drawn by the seed: the same in all stages, "
        "smaller sets within larger ones; validation and test images stay",
    )
    full_epochs: bool = Field(
        True,
        description="with `images_per_class`, an epoch has as many images as the whole training set, the few "
        "repeated, so that schedule and number of samples are those of a full run; if false, it has each "
        "of the few once",
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay per step of an average of the weights, which is then what is evaluated"
    )
    evaluate_every: int = Field(1, gt=0, description="epochs between evaluations; the last epoch always has one")
    patience: int | None = Field(
        None, gt=0, description="stop after this many evaluations of which none would be selected"
    )
    keep: Keep = Field(
        "selected", description="which weights to keep: of the epoch best on the validation images, or the last"
    )

    @model_validator(mode="after")
    def _check(self) -> LoopSettings:
        if self.scales is not None and len(self.scales) > self.epochs:
            raise SpecError(f"{len(self.scales)} scales are more than `epochs: {self.epochs}`", ("scales",))
        if self.warmup > self.epochs:
            raise SpecError(f"the warm-up of {self.warmup:g} epochs exceeds `epochs: {self.epochs}`", ("warmup",))
        try:
            self.schedule.check(self.epochs)
        except SpecError as error:
            raise SpecError(error.problem, ("schedule", *error.path)) from None
        return self

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        evaluations = -(-self.epochs // self.evaluate_every)
        if self.patience and self.patience + 1 >= evaluations:
            yield "patience", f"{evaluations} evaluation(s) in {self.epochs} epochs are too few to end earlier"
        if self.images_per_class is None:
            for name in self.differs("full_epochs"):
                yield name, "it is for `images_per_class`, which is not given"
        elif facts.training and self.images_per_class == max(facts.training):
            yield "images_per_class", "each class has so many images to train on"

    def scale_in(self, epoch: int) -> float:
        """The scale at which the network reads images in an epoch, counted from 0."""
        return 1.0 if self.scales is None else self.scales[epoch * len(self.scales) // self.epochs]

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, counted from 0, as a pure function: peak * schedule * warm-up."""
        factor: float = self.schedule.factor(step / (self.epochs * steps_per_epoch), self.epochs)
        warm = self.warmup * steps_per_epoch
        peak: float = self.optimizer.lr
        return peak * factor * min(1.0, (step + 1) / warm if warm else 1.0)


class TrainingSettings(LoopSettings):
    """A mixin of stages that train on labels."""

    balance: Balance = Field(
        "none",
        description="classes of unequal size; sampling: an epoch draws as many images with replacement, each class "
        "equally often in expectation; loss: each image weighs N / (classes * images of its class) in losses that are "
        "means over images",
    )
    select: Select = Field(
        "accuracy",
        description="what selects, on the validation images, the epoch whose weights are saved, and what `patience` "
        "reads: the accuracy; balanced-accuracy, the mean over the classes of the share of their images that are "
        "recognised; or the loss, whose score is the accuracy",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each label spread evenly over all classes")
    replicate: int = Field(
        0,
        ge=0,
        description="another number gives other initial weights, order, augmentation and dropout, on the seed's "
        "split. Stages of one seed and replicate start from the same weights, which pairs a student with "
        "one trained alone; a student with its teacher's model needs another replicate than its teacher",
    )
    auxiliary_weight: float = Field(0.4, ge=0, description="weight of the auxiliary head's loss, in networks with one")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.balance != "none" and (self.images_per_class is not None or len(set(facts.training)) == 1):
            yield "balance", "all classes have as many images to train on"
        if self.select == "balanced-accuracy" and len(set(facts.validation)) == 1:
            yield "select", "all classes have as many validation images, so that it is the accuracy"
        if facts.auxiliary() is False:
            for name in self.differs("auxiliary_weight"):
                yield name, "the network has no auxiliary head"
