"""What processes that compute together tell each other; a process that is alone agrees with itself."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nasdistill.errors import UserError

if TYPE_CHECKING:
    import torch

    from nasdistill.training.neighbours import Neighbours

T = TypeVar("T", "torch.Tensor", "torch.Tensor | None")


def world_size() -> int:
    """How many processes compute together, on all machines."""
    import torch

    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if there else 1


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of what each process has, the same to the bit in all."""
    if world_size() == 1:
        return tensor
    import torch

    if neighbours := _neighbours_for(tensor):
        return neighbours.all_gather(tensor).sum(0, dtype=tensor.dtype)
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total


def all_reduce_mean(tensors: Sequence[T]) -> list[T]:
    """The mean of what each process has, tensor by tensor, in one message; the same to the bit in all.

    Args:
        tensors: of one type, and of the same shapes in all processes; None, which all have in the same places, stays.
    """
    there = [tensor for tensor in tensors if tensor is not None]
    if world_size() == 1 or not there:
        return list(tensors)
    import torch

    mean = all_reduce_sum(torch.cat([tensor.flatten() for tensor in there])) / world_size()
    parts = iter(torch.split(mean, [tensor.numel() for tensor in there]))
    return [next(parts).view(tensor.shape) if tensor is not None else None for tensor in tensors]


def all_gather(tensor: torch.Tensor) -> torch.Tensor:
    """What each process has, of equal shape, under each other: [processes, *shape]."""
    if world_size() == 1:
        return tensor[None]
    neighbours = _neighbours_for(tensor)
    return _all_gather(tensor) if neighbours is None else neighbours.all_gather(tensor)


def all_gather_rows(rows: torch.Tensor) -> list[torch.Tensor]:
    """What each process has, [rows of its own, ...], in the order of the processes; the same to the bit in all."""
    if world_size() == 1:
        return [rows]
    import torch

    counts = all_gather(torch.tensor(len(rows), device=rows.device)).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    return [part[:count] for part, count in zip(all_gather(padded), counts, strict=True)]


def all_reduce_max(*numbers: int) -> list[int]:
    """The largest of the processes' numbers, place by place; no accelerator waits for it."""
    if world_size() == 1:
        return list(numbers)
    import torch

    told = torch.tensor(numbers)
    neighbours = _neighbours_for(told)
    rows = _all_gather(told, _on_cpu()) if neighbours is None else neighbours.all_gather(told)
    return [int(number) for number in rows.amax(0).tolist()]


def barrier() -> None:
    """Return when all processes are here."""
    all_reduce_max(0)


def refuse_difference(tensors: Sequence[torch.Tensor], what: str) -> None:
    """Check that all processes hold the same bits.

    Args:
        what: the tensors are, in words, e.g. "the architecture after epoch 3".

    Raises:
        UserError: in all processes.
    """
    if world_size() == 1:
        return
    import torch

    rows = all_gather(torch.cat([tensor.detach().flatten() for tensor in tensors]))
    apart = (rows - rows[0]).abs().amax(1)
    if not bool((rows == rows[0]).all()):
        worst = int(apart.argmax())
        raise UserError(
            f"{what} differs between processes 0 and {worst} by {float(apart[worst]):.2g}: they no longer compute the "
            "same; please report it, and go on with one process"
        )


def _all_gather(tensor: torch.Tensor, group: Any = None) -> torch.Tensor:
    import torch

    rows = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size())]
    torch.distributed.all_gather(rows, tensor.contiguous(), group)
    return torch.stack(rows)


def _neighbours_for(tensor: torch.Tensor) -> Neighbours | None:
    """Who carries a message faster than torch, if this one is small and all processes are on this machine."""
    from nasdistill.training.neighbours import LARGEST

    return _neighbours() if tensor.device.type == "cpu" and 0 < tensor.nbytes <= LARGEST else None


@functools.cache
def _neighbours() -> Neighbours | None:
    """Made when all processes first ask for it."""
    import torch

    from nasdistill.training.neighbours import connect

    if os.environ.get("LOCAL_WORLD_SIZE") != str(world_size()):
        return None
    return connect(torch.distributed.get_rank(), lambda tensor: _all_gather(tensor, _on_cpu()))


@functools.cache
def _on_cpu() -> Any:
    """A group that talks without the accelerator; made when all processes first ask for it."""
    import torch

    return None if torch.distributed.get_backend() == "gloo" else torch.distributed.new_group(backend="gloo")
