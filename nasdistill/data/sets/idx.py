"""Images of one's own in files of MNIST's format."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar

from nasdistill.data.arrays import Array
from nasdistill.data.base import DATASETS
from nasdistill.data.idx_format import ALL_TYPES, GZIP, parse_idx, unpacked
from nasdistill.data.own import Entry, OwnArrays
from nasdistill.errors import SpecError, UserError

PACKED = ".gz"


@DATASETS.register("idx")
class Idx(OwnArrays):
    """Images and labels of one's own in files of MNIST's format, packed by gzip or not; of any size and classes.

    A folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and, if there is a test set, t10k- or test- files
    beside them; colour images have four axes. Other file names are given in `names`.
    """

    source: ClassVar[str] = "LeCun, Cortes and Burges, The MNIST database of handwritten digits, for the format"

    def entries(self) -> dict[str, Entry]:
        if not self.root.is_dir():
            raise SpecError(f"there is no folder {self.root}; set data.root to the folder of the files", ("root",))
        paths = [path for path in sorted(self.root.iterdir()) if path.is_file() and not path.name.startswith(".")]
        names = {path.name for path in paths}
        return {
            path.name: Entry(path, functools.partial(_array, path))
            for path in paths
            # torchvision leaves the packed file beside the unpacked one
            if not (path.suffix == PACKED and path.stem in names)
        }


def _array(path: Path) -> Array:
    data = path.read_bytes()
    try:
        return parse_idx(unpacked(data) if data.startswith(GZIP) else data, ALL_TYPES)
    except ValueError as error:
        raise UserError(f"this is no file of MNIST's format: {error}") from None
