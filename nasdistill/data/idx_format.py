"""The format of MNIST's files: an array of any number of axes, packed or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

UNSIGNED_BYTES = {0x08: "u1"}
ALL_TYPES = {**UNSIGNED_BYTES, 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""NumPy's names of the types by their codes."""
GZIP = b"\x1f\x8b"


def parse_idx(data: bytes, types: Mapping[int, str] = UNSIGNED_BYTES) -> np.ndarray[Any, Any]:
    """An array from the bytes of an IDX file: two zero bytes, the type, the number of axes, their lengths (big-endian,
    32 bits), the values (big-endian).

    Args:
        types: those that are wanted, of `ALL_TYPES`.

    Raises:
        ValueError: the bytes are something else.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits.
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in types:
        raise ValueError("it does not begin like an IDX file" + (" of bytes" if types is UNSIGNED_BYTES else ""))
    kind, axes = np.dtype(types[data[2]]), data[3]
    if len(data) < 4 + 4 * axes:
        raise ValueError("it is cut inside its header")
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    content, announced = len(data) - 4 - 4 * axes, kind.itemsize * math.prod(shape)
    if content != announced:
        raise ValueError(f"its header announces {announced} bytes, {content} follow")
    return np.frombuffer(data, dtype=kind, offset=4 + 4 * axes).reshape(shape)


def unpacked(data: bytes) -> bytes:
    """The content of a file of gzip.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from None
