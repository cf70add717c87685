"""The embedded digits of scikit-learn: real data that every machine has."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import ClassVar

from nasdistill.data.base import DATASETS, DataSet, ImageSet, RawData
from nasdistill.errors import UserError
from nasdistill.storage import sha256_of

TEST_EVERY = 5


@DATASETS.register("digits")
class Digits(DataSet):
    """1,797 scans of handwritten digits, grey, 8x8 pixels; every fifth of each class is the test set (355)."""

    source: ClassVar[str] = "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, 1998, as in scikit-learn"

    def fingerprint(self) -> str:
        return sha256_of(_file())

    def read(self) -> RawData:
        import numpy as np
        import torch

        rows = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
        # Pixels are counts 0..16 of a 4x4 block.
        pixels = np.rint(rows[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        labels = rows[:, 64]
        test = np.zeros(len(labels), dtype=bool)
        for digit in range(10):
            test[np.flatnonzero(labels == digit)[TEST_EVERY - 1 :: TEST_EVERY]] = True
        train, held_out = (ImageSet(torch.tensor(pixels[part]), torch.tensor(labels[part])) for part in (~test, test))
        return RawData(train, held_out, classes=tuple(map(str, range(10))))


def _file() -> Path:
    """The file inside scikit-learn, found without importing it, which takes a second."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise UserError("the data set 'digits' is embedded in scikit-learn, which is not installed")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise UserError(f"the data set 'digits' was looked for at {path}, where this scikit-learn does not have it")
    return path
