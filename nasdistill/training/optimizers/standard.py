"""The optimisers of torch, fused where the device allows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from nasdistill.errors import SpecError
from nasdistill.training.optimizers import OPTIMIZERS, Beta, Optimizer, can_fuse

if TYPE_CHECKING:
    import torch


@OPTIMIZERS.register("sgd")
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    source: ClassVar[str] = "Sutskever et al. 2013, On the importance of initialization and momentum in deep learning"
    state_degrees: ClassVar[Mapping[str, int]] = {"momentum_buffer": 1}

    lr: float = Field(0.1, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="how much of the last update is kept")
    nesterov: bool = Field(True, description="look ahead along the momentum")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay, as a term of the gradient")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise SpecError("nesterov looks ahead along the momentum, which is 0; set nesterov to false", ("nesterov",))
        return self

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        import torch

        given = list(parameters)
        optimizer = torch.optim.SGD(
            given,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=can_fuse(given),
        )
        if self.momentum > 0:
            # As a first step has it; torch's fused kernel fails where a parameter's first gradient comes later.
            for parameter in given:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer


@OPTIMIZERS.register("adam")
class Adam(Optimizer):
    """Steps scaled by running moments of the gradient; weight decay is a term of the gradient."""

    source: ClassVar[str] = "Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1"
    state_degrees: ClassVar[Mapping[str, int]] = {"exp_avg": 1, "exp_avg_sq": 2}
    decoupled: ClassVar[bool] = False
    """Whether weight decay is outside of the moments."""

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay of the first and of the second moment")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        import torch

        given = list(parameters)
        return torch.optim.Adam(
            given,
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=can_fuse(given),
            decoupled_weight_decay=self.decoupled,
        )


@OPTIMIZERS.register("adamw")
class AdamW(Adam):
    """Adam whose weight decay shrinks the weights directly, outside of the moments."""

    source = "Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2"
    decoupled = True

    weight_decay: float = Field(0.01, ge=0, description="weight decay, multiplied by the learning rate")


@OPTIMIZERS.register("rmsprop")
class RMSprop(Optimizer):
    """Steps scaled by the root of a running mean of the squared gradient; weight decay is a term of the gradient."""

    source: ClassVar[str] = "Tieleman and Hinton 2012, Lecture 6.5, Divide the gradient by a running average"
    state_degrees: ClassVar[Mapping[str, int]] = {"square_avg": 2, "momentum_buffer": 0}

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    alpha: Beta = Field(0.9, description="decay of the mean square")
    momentum: float = Field(0.0, ge=0, lt=1, description="how much of the last update is kept")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.RMSprop(
            parameters, lr=self.lr, alpha=self.alpha, momentum=self.momentum, weight_decay=self.weight_decay
        )
