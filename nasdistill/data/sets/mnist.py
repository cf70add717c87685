"""MNIST and Fashion-MNIST, in IDX files, unpacked or as `.gz`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from nasdistill.data.base import DATASETS, ImageSet, RawData
from nasdistill.data.files import Download, FileSet, Layout, Located
from nasdistill.data.idx_format import parse_idx, unpacked
from nasdistill.errors import UserError

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FILES = (*TRAIN, *TEST)


class IdxSet(FileSet):
    """Base of MNIST and its likes."""

    classes: ClassVar[tuple[str, ...]]
    for_own_data: ClassVar[str] = "idx"

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
        return parse_idx(unpacked(data) if packed else data)
    except ValueError as error:
        raise UserError(f"{located.folder / file_name} is damaged: {error}") from None


def _layouts(folder: str, packed: Sequence[str], unpacked: Sequence[str]) -> tuple[Layout, Layout]:
    """The four files as `.gz` and as they are, by their MD5 in the order of `FILES`."""
    return (
        Layout(folder, {f"{name}.gz": md5 for name, md5 in zip(FILES, packed, strict=True)}),
        Layout(folder, dict(zip(FILES, unpacked, strict=True))),
    )


def _downloads(address: str, layout: Layout) -> tuple[Download, ...]:
    return tuple(Download((f"{address}/{name}",), str(md5), name) for name, md5 in layout.md5.items())


@DATASETS.register("mnist")
class Mnist(IdxSet):
    """70,000 handwritten digits, grey, 28x28 pixels, 10,000 of them the test set."""

    source: ClassVar[str] = "LeCun, Bottou, Bengio and Haffner, Gradient-based learning, 1998"

    layouts: ClassVar[tuple[Layout, ...]] = _layouts(
        "MNIST/raw",
        packed=(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        unpacked=(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
    )
    downloads: ClassVar[tuple[Download, ...]] = _downloads("https://ossci-datasets.s3.amazonaws.com/mnist", layouts[0])
    classes: ClassVar[tuple[str, ...]] = tuple(map(str, range(10)))


@DATASETS.register("fashion-mnist")
class FashionMnist(IdxSet):
    """70,000 pictures of clothes, grey, 28x28 pixels, in 10 classes, 10,000 of them the test set."""

    source: ClassVar[str] = "Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017"

    layouts: ClassVar[tuple[Layout, ...]] = _layouts(
        "FashionMNIST/raw",
        packed=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        unpacked=(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    )
    # The authors' own repository: their other address offers no https.
    downloads: ClassVar[tuple[Download, ...]] = _downloads(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion", layouts[0]
    )
    classes: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
