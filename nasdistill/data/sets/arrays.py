"""Images of one's own in NumPy's files."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from nasdistill.data.arrays import Array
from nasdistill.data.base import DATASETS
from nasdistill.data.own import Entry, OwnArrays
from nasdistill.errors import SpecError, UserError, found_at


@DATASETS.register("arrays")
class Arrays(OwnArrays):
    """Images and labels of one's own in NumPy's files: an `.npz`, or a folder of `.npy` and `.npz` files.

    Images are uint8 or floats, grey or coloured, labels whole numbers, texts or one-hot rows. Files that hold Python
    objects are refused unread.
    """

    source: ClassVar[str] = "numpy.lib.format, for the files"

    def entries(self) -> dict[str, Entry]:
        """Arrays of an `.npz` by their keys, `.npy` files by their names; of several `.npz` files both, joined by `_`.

        Raises:
            UserError: see above; or a file is none of NumPy's.
        """
        if self.root.is_file():
            with found_at(by=str(self.root)):
                _refuse_others(self.root)
            return self._of_file(self.root)
        if not self.root.is_dir():
            problem = f"there is no {self.root}; set data.root to an .npz file, or to a folder of .npy files"
            raise SpecError(problem, ("root",))
        files = [
            path
            for path in sorted(self.root.iterdir())
            if path.suffix.lower() in (".npy", ".npz") and not path.name.startswith(".")
        ]
        if not files:
            raise SpecError(f"{self.root} holds no .npy or .npz file", ("root",))
        if len(files) == 1:
            return self._of_file(files[0])
        return {
            f"{path.stem}_{name}" if entry.key else name: entry
            for path in files
            for name, entry in self._of_file(path).items()
        }

    def _of_file(self, path: Path) -> dict[str, Entry]:
        if not zipfile.is_zipfile(path):
            return {path.stem: Entry(path, functools.partial(_array, path))}
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
        return {key: Entry(path, functools.partial(_array, path, key), key) for key in keys}


def _refuse_others(path: Path) -> None:
    """Refuse what NumPy would take for a pickle.

    Raises:
        UserError: the file is none of NumPy's, or lacks its end.
    """
    with open(path, "rb") as file:
        beginning = file.read(len(MAGIC_PREFIX))
    if beginning.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            raise UserError("it is damaged: its end is missing, as after a download that broke off")
    elif beginning != MAGIC_PREFIX:
        raise UserError("this is no file of NumPy's")


def _array(path: Path, key: str | None = None) -> Array:
    try:
        if key is not None:
            with np.load(path, allow_pickle=False) as archive:
                return np.asarray(archive[key])
        _refuse_others(path)
        return np.asarray(np.load(path, allow_pickle=False))
    except UserError:
        raise
    except Exception as error:  # damaged files fail in many ways
        if "allow_pickle" in str(error):
            raise UserError(
                "it holds Python objects, which are never unpickled; save numbers, numpy.stack(images) for a list"
            ) from None
        raise UserError(f"it is damaged: {str(error).splitlines()[0]}") from None
