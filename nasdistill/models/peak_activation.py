"""How much memory the activations of a network need at once, from shapes alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasdistill.data.base import Shape

FLOAT = 4
"""Bytes of an activation in single precision."""
_aten = torch.ops.aten
_NORMS = (_aten.native_batch_norm, _aten._native_batch_norm_legit_no_training, _aten.cudnn_batch_norm)
_FOR_GRADIENTS = (*_NORMS, _aten.max_pool2d_with_indices)
"""Operations all of whose results but the first serve gradients alone."""
_IN_PLACE = (*_NORMS, _aten.hardswish, _aten._prelu_kernel)
"""Those that could write over an operand, and that torch does not mark as working element by element."""


def peak_activation(network: nn.Module, shape: Shape) -> int:
    """Bytes of the activations that are alive at once, at most, while one image runs through in single precision.

    An activation is alive from the operation that makes it to the last one that reads it; the image is one. What an
    operation reads and what it makes are alive together, but batch norms and operations that work element by element
    write over an operand of the same size that nobody reads afterwards, as runtimes do. Weights are not activations.

    Args:
        network: in evaluation mode; on the device `meta`, no value is computed.
    """
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    image = torch.zeros(1, *shape, device=device)
    recorder = _Recorder(network)
    recorder.read(image)
    with torch.no_grad(), recorder:
        network(image)
    return recorder.peak()


@dataclass
class _Step:
    """One operation.

    Attributes:
        reads, makes: the numbers of storages.
        overwrites: whether it may write its result over what it reads.
    """

    reads: list[int]
    makes: list[int]
    overwrites: bool = False


@dataclass
class _Storages:
    """Those of activations, each with a number, and kept, so that none is taken for another."""

    numbers: dict[int, int] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    def number(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.numbers:
            self.numbers[key] = len(self.kept)
            self.kept.append(storage)
            self.values.append(storage.nbytes() // tensor.element_size())
        return self.numbers[key]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Which activations each operation of a forward pass reads and makes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        state = (*network.parameters(), *network.buffers())
        self.weights = {tensor.untyped_storage()._cdata for tensor in state}
        self.storages = _Storages()
        self.steps: list[_Step] = []

    def read(self, tensor: torch.Tensor) -> None:
        self.steps.append(_Step([], [self.storages.number(tensor)]))

    def __torch_dispatch__(self, operation: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        reads = self._activations((args, kwargs))
        kind = operation.overloadpacket
        outputs = self._activations(made[0] if kind in _FOR_GRADIENTS else made)
        makes = [number for number in outputs if number not in reads]  # a view makes nothing
        self.steps.append(_Step(reads, makes, torch.Tag.pointwise in operation.tags or kind in _IN_PLACE))
        return made

    def _activations(self, value: Any) -> list[int]:
        """The numbers of the storages of all tensors in `value` that are no weights."""
        leaves = torch.utils._pytree.tree_leaves(value)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.numel() > 0]
        own = [each for each in tensors if each.untyped_storage()._cdata not in self.weights]
        return list(dict.fromkeys(map(self.storages.number, own)))

    def peak(self) -> int:
        """The most bytes that are alive at one step."""
        last = {number: at for at, step in enumerate(self.steps) for number in (*step.reads, *step.makes)}
        last |= dict.fromkeys(self.steps[-1].makes, len(self.steps))
        alive, peak = 0, 0
        size = self.storages.values
        for at, step in enumerate(self.steps):
            ends = [number for number in {*step.reads, *step.makes} if last[number] == at]
            made = sum(size[number] for number in step.makes)
            over = max((size[each] for each in ends if each in step.reads and size[each] == made), default=0)
            peak = max(peak, alive + made - (over if step.overwrites else 0))
            alive += made - sum(size[number] for number in ends)
        return FLOAT * peak
