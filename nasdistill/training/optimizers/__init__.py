"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch


class Optimizer(Component):
    """Base of all optimisers."""

    lr: float = Field(gt=0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0, description="weight decay")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        raise NotImplementedError(type(self).__name__)


OPTIMIZERS: Registry[Optimizer] = Registry("optimizers", Optimizer, "nasdistill.training.optimizers")
