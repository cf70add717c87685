"""The IDX files of MNIST and of the sets that took over its format, unpacked or as `.gz`."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from typing import ClassVar

import numpy as np
import torch

from nasdistill.data.base import ImageSet, RawData
from nasdistill.data.files import FileSet, Located
from nasdistill.errors import UserError

UNSIGNED_BYTES = 8
TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def parse_idx(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An array from the bytes of an IDX file: two zero bytes, type 8, the number of axes, their lengths (big-endian,
    32 bits), the values.

    Raises:
        ValueError: the bytes are something else.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits.
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UNSIGNED_BYTES:
        raise ValueError("it does not begin like an IDX file of bytes")
    axes = data[3]
    if len(data) < 4 + 4 * axes:
        raise ValueError("it is cut inside its header")
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    content = len(data) - 4 - 4 * axes
    if content != math.prod(shape):
        raise ValueError(f"its header announces {math.prod(shape)} bytes, {content} follow")
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)


class IdxSet(FileSet):
    """Base of MNIST and its likes."""

    classes: ClassVar[tuple[str, ...]]

    def read(self) -> RawData:
        located = self.locate()
        return RawData(self._image_set(located, TRAIN), self._image_set(located, TEST), self.classes)

    def _image_set(self, located: Located, names: tuple[str, str]) -> ImageSet:
        images, labels = (_array(located, name) for name in names)
        if images.ndim != 3 or labels.shape != images.shape[:1] or not len(labels) or labels.max() >= len(self.classes):
            raise UserError(
                f"{located.folder} holds images of shape {images.shape} and labels of shape {labels.shape} in "
                f"{names[0]!r} and {names[1]!r}, not one label below {len(self.classes)} for each image"
            )
        pixels = torch.from_numpy(images.copy()).unsqueeze(1)  # a copy: what was read from a file is read-only
        return ImageSet(pixels, torch.from_numpy(labels.astype(np.int64)))


def _array(located: Located, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    packed = name not in located.layout.md5
    file_name = name + ".gz" if packed else name
    data = located.read(file_name)
    try:
        return parse_idx(gzip.decompress(data) if packed else data)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{located.folder / file_name} is damaged: {error}") from None
