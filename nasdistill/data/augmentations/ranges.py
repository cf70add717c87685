"""Options that are ranges, and draws from them."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import AfterValidator

from nasdistill.errors import SpecError


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if not 0 < ends[0] <= ends[1]:
        raise SpecError(f"must be two positive numbers, the smaller first, got {list(ends)}")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_rising)]


def between(ends: tuple[float, float], shares: torch.Tensor) -> torch.Tensor:
    """Numbers at these shares, in [0, 1], of the way from one end to the other."""
    return ends[0] + (ends[1] - ends[0]) * shares
