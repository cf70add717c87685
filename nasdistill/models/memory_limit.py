"""Networks that this machine's memory cannot hold are refused before their weights are drawn, which takes minutes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nasdistill.errors import UserError
from nasdistill.readings import reading
from nasdistill.words import size, whole

Built = TypeVar("Built", bound=nn.Module)

LARGE = 1 << 28
"""Values from which on it is worth looking, a gigabyte in single precision."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux tells how much memory a container has."""


class _Large(Exception):
    """A network has more than `LARGE` values."""


class _Counting(TorchFunctionMode):
    """Raises `_Large` as soon as the tensors that are made hold so many values, mostly before these are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        made = function(*arguments, **(named or {}))
        if function in (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn):
            self.values += made.numel()
            if self.values > LARGE:
                raise _Large
        return made


class _Undrawn(TorchFunctionMode):
    """Passes over what fills tensors, for which torch would load seconds of code where there are no values."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        fills = name.endswith("_") and not name.startswith("__")
        return arguments[0] if fills and arguments else function(*arguments, **(named or {}))


def within_memory(build: Callable[[], Built]) -> Built:
    """The network that `build` makes, counted without weights first where it is large.

    Raises:
        UserError: its weights are more than this machine's memory.
    """
    random = torch.get_rng_state()
    try:
        with _Counting():
            return build()
    except (_Large, RuntimeError) as error:
        if not isinstance(error, _Large) and "allocat" not in str(error):
            raise
    values = _values_of(build)
    if values is not None:
        refuse_beyond_memory(values)
    torch.set_rng_state(random)
    return build()


def refuse_beyond_memory(values: int) -> None:
    """Nothing where so many weights fit.

    Raises:
        UserError: they are more than this machine's memory.
    """
    memory = reading("the memory of this machine", memory_bytes)
    if memory is not None and 4 * values > memory:
        raise UserError(
            f"this network has {whole(values)} weights, {size(4 * values)} in single precision, and this machine has "
            f"{size(memory)} of memory; choose a smaller one"
        )


def _values_of(build: Callable[[], nn.Module]) -> int | None:
    """How many weights a network has, found on torch's device without memory; None where it cannot be built there."""
    try:
        with torch.device("meta"), _Undrawn():
            network = build()
    except Exception:  # code that reads values breaks there in any way
        return None
    return sum(parameter.numel() for parameter in network.parameters())


def memory_bytes() -> int:
    """What this process can have at most: the machine's memory, or its container's share."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in map(Path, LIMITS):
        if limit.is_file() and (told := limit.read_text().strip()).isdecimal():
            found = min(found, int(told))
    return found
