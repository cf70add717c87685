"""What a GPU would show of moves to it, seen without one."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoWaitingMoves(TorchDispatchMode):
    """Refuses what moves values to a device as soon as all is done that was begun there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and kwargs.get("device") is not None:
            assert kwargs.get("non_blocking")
        return func(*args, **(kwargs or {}))
