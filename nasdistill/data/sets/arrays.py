"""Images of one's own in NumPy's files."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path
from typing import ClassVar

from nasdistill.data.base import DATASETS
from nasdistill.data.numpy_files import read_array, refuse_others
from nasdistill.data.own import Entry, OwnArrays
from nasdistill.errors import SpecError, found_at


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
                refuse_others(self.root)
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
            return {path.stem: Entry(path, functools.partial(read_array, path))}
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
        return {key: Entry(path, functools.partial(read_array, path, key), key) for key in keys}
