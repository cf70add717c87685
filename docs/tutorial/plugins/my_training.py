"""An optimiser and a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pydantic import Field

from nasdistill.training.optimizers import OPTIMIZERS, Beta, Optimizer
from nasdistill.training.schedules import SCHEDULES, Schedule


class SignMomentum(torch.optim.Optimizer):
    """p <- p - lr (sign(b1 m + (1 - b1) g) + decay p), then m <- b2 m + (1 - b2) g, where m starts at 0."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (first, second), decay, lr = group["betas"], group["weight_decay"], group["lr"]
            for parameter in (each for each in group["params"] if each.grad is not None):
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                direction = momentum.lerp(parameter.grad, 1 - first).sign()
                parameter.sub_(direction.add(parameter, alpha=decay), alpha=lr)
                momentum.lerp_(parameter.grad, 1 - second)


@OPTIMIZERS.register("lion")
class Lion(Optimizer):
    """Steps of the same size in every weight: the sign of a momentum."""

    source = "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms (arXiv:2302.06675)"

    lr: float = Field(1e-4, gt=0, description="peak learning rate")
    betas: tuple[Beta, Beta] = Field((0.9, 0.99), description="of the step's momentum, and of the one that is kept")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        defaults: dict[str, Any] = {"lr": self.lr, "betas": self.betas, "weight_decay": self.weight_decay}
        return SignMomentum(parameters, defaults)


@SCHEDULES.register("stable-decay")
class StableDecay(Schedule):
    """Stays at the peak, then falls to 0 in a straight line."""

    source = "Hägele et al. 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations"

    cooldown: float = Field(0.2, gt=0, le=1, description="fraction of the training in which it falls")

    def factor(self, done: float, epochs: int) -> float:
        return min(1.0, (1 - done) / self.cooldown)
