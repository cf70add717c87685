"""Arrays in NumPy's files, of which none is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from nasdistill.data.arrays import Array
from nasdistill.errors import UserError


def is_array(path: Path) -> bool:
    """Whether a file begins as a single array of NumPy's does (`.npy`)."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX


def refuse_others(path: Path) -> None:
    """Refuse what NumPy would take for a pickle.

    Raises:
        UserError: the file is none of NumPy's, or lacks its end.
    """
    if is_array(path):
        return
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            raise UserError("this is no file of NumPy's")
    if not zipfile.is_zipfile(path):
        raise UserError("it is damaged: its end is missing, as after a download that broke off")


def read_array(path: Path, key: str | None = None) -> Array:
    """The array in an `.npy` file, or the one under a key of an `.npz` file.

    Raises:
        UserError: the file is damaged, none of NumPy's, or holds Python objects.
    """
    try:
        if key is not None:
            with np.load(path, allow_pickle=False) as archive:
                return np.asarray(archive[key])
        refuse_others(path)
        return np.asarray(np.load(path, allow_pickle=False))
    except UserError:
        raise
    except Exception as error:  # damaged files fail in many ways
        if "allow_pickle" in str(error):
            raise UserError(
                "it holds Python objects, which are never unpickled; save numbers, numpy.stack(images) for a list"
            ) from None
        raise UserError(f"it is damaged: {str(error).splitlines()[0]}") from None
