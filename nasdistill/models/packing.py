"""Signs in memory: one bit each, eight to a byte."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_BITS = range(7, -1, -1)
"""Places of the bits of a byte; the first sign is the highest bit, as in `numpy.packbits`."""


def pack_signs(values: torch.Tensor) -> torch.Tensor:
    """The signs of a tensor of any shape in row-major order, as uint8 [ceil(numel / 8)].

    A bit is 1 where the value is at least 0; the last byte is filled with zeros.
    """
    bits = (values >= 0).flatten().to(torch.uint8)
    bits = torch.nn.functional.pad(bits, (0, -len(bits) % 8)).view(-1, 8)
    return sum((bits[:, column] << place for column, place in enumerate(_BITS)), torch.zeros_like(bits[:, 0]))


def unpack_signs(packed: torch.Tensor, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """The inverse of `pack_signs`: 1 and -1 of the given shape and precision."""
    bits = torch.stack([(packed >> place) & 1 for place in _BITS], dim=1).flatten()
    return bits[: math.prod(shape)].view(*shape).to(dtype) * 2 - 1
