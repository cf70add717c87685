"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Component):
    """Base of all optimisers."""

    lr: float = Field(gt=0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0, description="weight decay")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of `parameters`, which lie on their device already."""
        raise NotImplementedError(type(self).__name__)


def can_fuse(parameters: Iterable[torch.nn.Parameter]) -> bool:
    """Whether torch updates these parameters in one kernel, without temporary tensors."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)


OPTIMIZERS: Registry[Optimizer] = Registry("optimizers", Optimizer, "nasdistill.training.optimizers")
