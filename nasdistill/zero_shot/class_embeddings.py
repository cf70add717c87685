"""Embeddings of the classes' names, which a language model made elsewhere: a file with a row for each class."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import PlainSerializer

from nasdistill.data.numpy_files import is_array, read_array
from nasdistill.errors import UserError, found_at
from nasdistill.models.formats import format_of
from nasdistill.models.reading import read_tensors
from nasdistill.storage import sha256_of

FileContent = Annotated[Path, PlainSerializer(sha256_of, when_used="json")]
"""Of an option: a file whose content decides results, wherever it lies; in plain data, and so in keys, its SHA-256."""
MOST_BYTES = 1 << 30


def read_embeddings(path: Path) -> torch.Tensor:
    """The matrix in an `.npy` or a safetensors file, float32, [classes, numbers].

    Raises:
        UserError: there is no such file, or it holds no finite numbers in rows that differ.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if is_array(path):
        with found_at(by=str(path)):
            array = read_array(path)
        if array.dtype.kind not in "iuf":
            raise UserError(f"{path} holds {array.dtype}, not numbers")
        with np.errstate(over="ignore"):
            table = torch.from_numpy(array.astype(np.float32))
    elif format_of(path) == "safetensors":
        tensors = read_tensors(path, MOST_BYTES).values
        if len(tensors) != 1:
            raise UserError(f"{path} holds {len(tensors)} tensors, not one with a row for each class")
        table = next(iter(tensors.values())).float()
    else:
        raise UserError(f"{path} would have to be unpickled; write the matrix with numpy.save, or as safetensors")
    if table.ndim != 2 or not table.numel():
        raise UserError(f"{path} holds an array of shape {list(table.shape)}, not a row of numbers for each class")
    if not table.isfinite().all():
        raise UserError(f"{path} holds values that are no numbers (NaN or infinity), or beyond single precision")
    if bool((table == table[0]).all()):
        raise UserError(f"all rows of {path} are equal, so that they tell no class from another")
    return table


def equal_rows(table: torch.Tensor) -> list[int]:
    """The places of rows that are all equal, of those that most often are; none where all rows differ."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, row in enumerate(table.numpy()):
        places[row.tobytes()].append(place)
    most = max(places.values(), key=len)
    return most if len(most) > 1 else []
