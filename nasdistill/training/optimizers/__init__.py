"""Optimisers by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Component):
    """Base of all optimisers."""

    state_degrees: ClassVar[Mapping[str, int] | None] = None
    """Of what it remembers for each number of a parameter, by the key in torch's state: by what power of c it changes
    when all gradients are multiplied by c. None if that is not known; then no network can grow while it trains."""

    lr: float = Field(gt=0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0, description="weight decay")

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of `parameters`, which lie on their device already."""
        raise NotImplementedError(type(self).__name__)


def can_fuse(parameters: Iterable[torch.nn.Parameter]) -> bool:
    """Whether torch updates these parameters in one kernel, without temporary tensors."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)


def scale_rates(optimizer: torch.optim.Optimizer, factors: Mapping[torch.nn.Parameter, float]) -> None:
    """Split an optimiser's groups by the `factor` of their parameters' learning rates, the largest first.

    Args:
        factors: of parameters; that of any other is 1.
    """
    if not factors:
        return
    groups = []
    for group in optimizer.param_groups:
        alike: dict[float, list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            alike[factors.get(parameter, 1.0)].append(parameter)
        groups += [{**group, "params": members, "factor": factor} for factor, members in alike.items()]
    optimizer.param_groups[:] = sorted(groups, key=lambda group: -group["factor"])


def quicken(optimizer: torch.optim.Optimizer, parameters: Collection[torch.nn.Parameter], by: float) -> None:
    """Split groups of their own off for some parameters: `by` times the learning rate, and as much weight decay a step.

    They come last.
    """
    if by == 1:
        return
    chosen, rest, quick = set(parameters), [], []
    for group in optimizer.param_groups:
        slow = [parameter for parameter in group["params"] if parameter not in chosen]
        fast = [parameter for parameter in group["params"] if parameter in chosen]
        if slow:
            rest.append({**group, "params": slow})
        if fast:
            factor, decay = by * group.get("factor", 1.0), group["weight_decay"] / by
            quick.append({**group, "params": fast, "factor": factor, "weight_decay": decay})
    optimizer.param_groups[:] = rest + quick


OPTIMIZERS: Registry[Optimizer] = Registry("optimizers", Optimizer, "nasdistill.training.optimizers")
