"""Options of searches by gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nasdistill.component import Facts
from nasdistill.errors import SpecError
from nasdistill.registry import ComponentOf
from nasdistill.search.strategies import Strategy


class GradientOptions(Strategy):
    """What the strategies that learn an architecture by gradient, beside the weights, have in common."""

    epochs: int = Field(50, gt=0, description="passes over the half of the training images that teaches the weights")
    batch_size: int = Field(64, gt=1, description="images of a step, of each half, over all processes together")
    lr: float = Field(0.025, gt=0, description="learning rate of the weights at the start")
    lr_end: float = Field(0.001, ge=0, description="learning rate of the weights at the end of its cosine")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of the weights")
    weight_decay: float = Field(3e-4, ge=0, description="weight decay of the weights")
    clip: float = Field(5.0, gt=0, description="largest norm of the gradient of all weights together")
    alpha_lr: float = Field(3e-4, gt=0, description="learning rate of the architecture (Adam, betas 0.5 and 0.999)")
    alpha_travel: float | None = Field(
        None,
        gt=0,
        description="in place of alpha_lr: how far an alpha can move in the whole search, e.g. 6 as in 50 epochs of "
        "CIFAR-10 at the published rate, so that the rate follows from the number of steps",
    )
    alpha_weight_decay: float = Field(1e-3, ge=0, description="weight decay of the architecture")

    @model_validator(mode="after")
    def _rate_falls(self) -> GradientOptions:
        if self.lr_end > self.lr:
            raise SpecError(f"the learning rate falls from lr {self.lr} to lr_end, got {self.lr_end}", ("lr_end",))
        return self

    @model_validator(mode="after")
    def _alphas_have_one_rate(self) -> GradientOptions:
        if self.alpha_travel is not None and "alpha_lr" in self.model_fields_set:
            raise SpecError(
                "alpha_lr and alpha_travel both set the rate of the architecture; give one", ("alpha_travel",)
            )
        return self

    def learning_rate(self, epoch: int) -> float:
        """Half a cosine from `lr` to `lr_end`, constant within an epoch."""
        return self.lr_end + (self.lr - self.lr_end) * (1 + math.cos(math.pi * epoch / self.epochs)) / 2

    def warms_up(self, epoch: int) -> bool:
        """Whether only the weights learn in this epoch, counted from 0."""
        return False

    def alpha_rate(self, steps_per_epoch: int) -> float:
        """Learning rate of the architecture; Adam moves an alpha by at most about so much a step."""
        if self.alpha_travel is None:
            return self.alpha_lr
        return self.alpha_travel / (steps_per_epoch * sum(not self.warms_up(epoch) for epoch in range(self.epochs)))


class CellOptions(GradientOptions):
    """What a search of cells has beside them."""

    order: Literal[1, 2] = Field(
        1,
        description="1 takes the present weights for the optimal ones; 2 looks one weight step ahead, at 2.5 times the "
        "cost and always in 32-bit precision, which its finite differences need",
    )
    sampler: Annotated[Any, ComponentOf("samplers")] = Field(
        "softmax",
        validate_default=True,
        description="how weights come from what is learned, e.g. {name: gumbel, hard: false}",
    )
    edges: Annotated[Any, ComponentOf("edges")] = Field(
        "dense", validate_default=True, description="what lies on an edge, e.g. {name: partial, divisor: 4}"
    )
    warm_up: float = Field(
        0.0, ge=0, lt=1, description="share of the epochs, at the start, in which only the weights learn; whole epochs"
    )
    edge_normalisation: bool = Field(
        False, description="learn the share of each edge in its node's sum as well, a softmax over the node's edges"
    )
    regularisers: tuple[Annotated[Any, ComponentOf("regularisers")], ...] = Field(
        (),
        validate_default=True,
        description="terms of the architecture's loss beside cross-entropy, e.g. [beta-decay]",
    )
    selection: Annotated[Any, ComponentOf("selections")] = Field(
        "strongest",
        validate_default=True,
        description="which edges and operations are kept, e.g. {name: capped-skips, skips: 2}",
    )
    budget_weight: float = Field(
        1.0,
        ge=0,
        description="what is added to the architecture's loss, times the share by which the expected cost is above the "
        "budget, if there is one",
    )
    max_skips: int | None = Field(
        None,
        ge=0,
        description="skip connections in the normal cell beyond which the search counts as collapsed; half of the "
        "edges that the cell keeps, if not given",
    )
    on_collapse: Literal["warn", "stop"] = Field(
        "warn", description="warn of a collapse, or stop there and keep the cells of the epoch before"
    )
    eigenvalue: Literal["ignore", "watch", "stop"] = Field(
        "ignore",
        description="after each epoch compute, on one batch in 64 bits, the dominant eigenvalue of the Hessian of the "
        "validation loss in the architecture: watch it as a curve, or also stop where it rises by a third within five "
        "epochs, and keep the cells of before",
    )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.budget is None:
            for name in self.differs("budget_weight"):
                yield name, "there is no budget"

    def warms_up(self, epoch: int) -> bool:
        return (epoch + 1) / self.epochs <= self.warm_up
