"""Follows the channels of a network through a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from nasdistill.models.channels.names import NONE, Names

Rule = Callable[["Tracer", Any, Sequence[Any], Any], None]
"""Of the operation, its arguments and what it gave: carries on what is known of channels."""


class Tracer(TorchDispatchMode):
    """Follows channels through the operations of a forward pass.

    Args:
        rules: by the names of torch's operations, what each does to the names of channels; `pointwise` stands for all
            whose numbers are each computed from those in the same place.

    Attributes:
        state: by name, parameters and buffers.
        sides: of each of them, the names of channels along each dimension.
        carried: of tensors, the names of their elements, of the same shape.
        turned: of views of weights, the state's name and the dimension of it that each of theirs is.
        known: dimensions of the state's tensors that hold channels.
        reading: those of them that are inputs of weights.
        shared: the first names of those of the state's tensors that have several.
        branches: the network's code asked for a number that it had computed, so that other images may run otherwise.
    """

    def __init__(self, network: nn.Module, rules: Mapping[str, Rule]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rules = rules
        self.names = Names()
        self.state = {
            name: tensor
            for name, tensor in [*network.named_parameters(), *network.named_buffers()]
            if tensor.ndim and tensor.numel()
        }
        self.sides = {name: [self.names.new(size) for size in tensor.shape] for name, tensor in self.state.items()}
        self.carried: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.turned: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.known: set[tuple[str, int]] = set()
        self.reading: set[tuple[str, int]] = set()
        self.used: set[str] = set()
        for name, tensor in self.state.items():
            self.turned[tensor] = (name, tuple(range(tensor.ndim)))
        every = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
        again = [tensor for name, tensor in every if name not in self.state and tensor in self.turned]
        self.shared = {self.turned[tensor][0] for tensor in again}
        self.constants: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.branches = False

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        outputs = operation(*arguments, **(named or {}))
        name = operation.overloadpacket.__name__.rstrip("_")
        given = tensors_in([*arguments, *(named or {}).values()])
        if name == "lift_fresh" or all(tensor in self.constants for tensor in given):
            self.constants.update(dict.fromkeys(tensors_in(outputs)))
        rule = self.rules.get(name) or (self.rules["pointwise"] if torch.Tag.pointwise in operation.tags else None)
        if rule is not None:
            rule(self, operation, arguments, outputs)
        else:
            for tensor in given:
                self.fix(tensor, f"it is not known what {name} does to them")
        return outputs

    def of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The names of a tensor's elements; None if it carries none."""
        if tensor in self.carried:
            return cast(torch.Tensor, self.carried[tensor])
        if tensor not in self.turned:
            return None
        name, order = self.turned[tensor]
        self.used.add(name)
        wide = [at for at, size in enumerate(tensor.shape) if size > 1]
        if len(wide) > 1:
            self.fix_state(name, "they are computed with outside of a layer")
            return None
        at = wide[0] if wide else 0
        self.known.add((name, order[at]))
        shape = [-1 if each == at else 1 for each in range(tensor.ndim)]
        along: torch.Tensor = self.sides[name][order[at]]
        return along.reshape(shape)

    def carry(self, tensor: torch.Tensor, names: torch.Tensor | None) -> None:
        if names is not None:
            self.carried[tensor] = names
        elif tensor in self.carried:
            del self.carried[tensor]

    def fix(self, tensor: torch.Tensor, reason: str) -> None:
        """The channels that a tensor carries stay as many as they are."""
        if tensor in self.carried:
            self.names.fix(self.carried[tensor], reason)
        elif tensor in self.turned:
            self.fix_state(self.turned[tensor][0], reason)

    def fix_state(self, name: str, reason: str) -> None:
        self.used.add(name)
        for dimension, side in enumerate(self.sides[name]):
            self.known.add((name, dimension))
            self.names.fix(side, reason)

    def side(self, name: str, dimension: int, reads: bool = False) -> torch.Tensor:
        """The names along a dimension of a weight."""
        self.known.add((name, dimension))
        if reads:
            self.reading.add((name, dimension))
        return self.sides[name][dimension]

    def weight(self, tensor: torch.Tensor) -> tuple[str, tuple[int, ...]] | None:
        """The name of a weight of the state, and the dimension of it that each of the tensor's is."""
        if tensor not in self.turned:
            return None
        found = cast(tuple[str, tuple[int, ...]], self.turned[tensor])
        self.used.add(found[0])
        return found

    def along(self, tensor: torch.Tensor, dimension: int) -> torch.Tensor | None:
        """The names along a dimension, NONE for values that are no channel; None if they differ along another one."""
        names = self.of(tensor)
        if names is None:
            return torch.full((tensor.shape[dimension],), NONE)
        names = names.expand(tensor.shape)
        if any(at != dimension % names.ndim for at in varying(names)):
            return None
        return names.movedim(dimension, -1).reshape(-1, names.shape[dimension])[0]


def varying(names: torch.Tensor) -> list[int]:
    """The dimensions along which elements have different names."""
    return [at for at in range(names.ndim) if not names.eq(names.narrow(at, 0, 1)).all()]


def tensors_in(value: Any) -> list[torch.Tensor]:
    """All tensors of lists, tuples and mappings within each other."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [each for part in value for each in tensors_in(part)] if isinstance(value, list | tuple) else []
