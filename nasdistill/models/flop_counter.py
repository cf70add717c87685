"""Counts the multiply-adds of a forward pass."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

log = logging.getLogger(__name__)


@contextmanager
def counting(weights: Mapping[nn.Parameter, str] | None = None) -> Iterator[FlopCounter]:
    """Counts what is computed meanwhile; tells at the end what it could not count.

    Args:
        weights: names, see `FlopCounter.by_weight`.
    """
    with _attention_in_the_open(), FlopCounter(weights or {}) as counter:
        yield counter
    if counter.uncounted:
        log.warning("no multiply-adds are counted for %s: the true number is larger", ", ".join(counter.uncounted))


@contextmanager
def _attention_in_the_open() -> Iterator[None]:
    """Without torch's fused attention: which kernels there are, and which the counter sees, changes with torch."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _recurrent_flops(inputs: torch.Tensor, *weights: Any, **_: Any) -> int:
    """Of a recurrent layer in one kernel: each of the T * N steps of [T, N, C] multiplies by both weight matrices."""
    return int(2 * math.prod(inputs.shape[:2]) * sum(weight.numel() for weight in weights[:2]))


def _bilinear_flops(left: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> int:
    """Of x1' W x2 for each row and output: W times x1, then that times x2, of W [O, I, J]."""
    outputs, _inputs, right = weight.shape
    return int(2 * len(left) * (weight.numel() + outputs * right))


def _vector_flops(left: torch.Tensor, *_: Any, **__: Any) -> int:
    """Of a matrix or a vector with a vector."""
    return 2 * left.numel()


def _added_vector_flops(_bias: torch.Tensor, matrix: torch.Tensor, *_: Any, **__: Any) -> int:
    return _vector_flops(matrix)


_aten = torch.ops.aten
# What torch computes in one kernel and its counter has no formula for.
_FORMULAS = {
    _aten.mkldnn_rnn_layer: _recurrent_flops,
    _aten._trilinear: _bilinear_flops,
    _aten.mv: _vector_flops,
    _aten.dot: _vector_flops,
    _aten.addmv: _added_vector_flops,
}
_FREE = (_aten.copy_, _aten.native_layer_norm, _aten.grid_sampler_2d)


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations by torch's formulas, without its `FlopCounterMode`, which takes twice as long.

    Attributes:
        by_weight: operations, two for each multiply-add, by the names of the weights that they read, whole or as views;
            "" for none of them.
        uncounted: operations that combine tensors by more than element by element, and have no formula.
    """

    def __init__(self, weights: Mapping[nn.Parameter, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry  # it takes triton along, half a second

        self.formulas = {**flop_registry, **_FORMULAS}
        self.by_weight: Counter[str] = Counter()
        self._names = {_memory(weight): name for weight, name in weights.items() if weight.ndim > 1}
        self.uncounted: dict[str, None] = {}

    @property
    def multiply_adds(self) -> int:
        return sum(self.by_weight.values()) // 2

    def __torch_dispatch__(self, operation: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        kind = operation.overloadpacket
        formula = self.formulas.get(kind)
        if formula is None and torch.is_inference_mode_enabled():  # else torch has taken it apart before
            with self:
                found = operation.decompose(*args, **named)
            if found is not NotImplemented:
                return found
        found = operation(*args, **named)
        if formula is not None:
            read = (_memory(value) for value in args if isinstance(value, torch.Tensor))
            name = next((self._names[memory] for memory in read if memory in self._names), "")
            self.by_weight[name] += formula(*args, **named, out_val=found)
        elif torch.Tag.pointwise not in operation.tags and kind not in _FREE:
            tensors = [value for value in args if isinstance(value, torch.Tensor) and value.is_floating_point()]
            if sum(tensor.dim() > 1 for tensor in tensors) > 1:
                self.uncounted[str(kind)] = None
        return found


def _memory(tensor: torch.Tensor) -> int:
    """What a tensor and its views have in common."""
    address: int = tensor.untyped_storage()._cdata
    return address
