"""A data set in one file of numpy arrays, as MedMNIST and many others are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from nasdistill.data.base import DATASETS, DataSet, ImageSet, RawData
from nasdistill.errors import UserError
from nasdistill.storage import sha256_of


@DATASETS.register("npz")
class Npz(DataSet):
    """`train_images`, `train_labels`, `test_images`, `test_labels`, if there are `val_images` and `val_labels`, too."""

    source = "the layout of MedMNIST, Yang et al. 2023"
    access: ClassVar[frozenset[str]] = frozenset({"file"})

    file: Path = Field(description="an .npz file; images are bytes, [N, H, W] or [N, H, W, C]")

    def fingerprint(self) -> str:
        if not self.file.is_file():
            raise UserError(f"there is no file {self.file}")
        return sha256_of(self.file)

    def read(self) -> RawData:
        with np.load(self.file) as arrays:
            train, test = images_in(arrays, "train"), images_in(arrays, "test")
            validation = images_in(arrays, "val") if "val_images" in arrays else None
        classes = tuple(map(str, range(int(train.labels.max()) + 1)))
        return RawData(train, test, classes, validation)


def images_in(arrays: Any, part: str) -> ImageSet:
    """One part of the file; images become [N, C, H, W]."""
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"].reshape(-1)
    images = images.reshape(*images.shape[:3], -1).transpose(0, 3, 1, 2)
    return ImageSet(torch.tensor(images), torch.tensor(labels, dtype=torch.int64))
