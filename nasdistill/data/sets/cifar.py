"""CIFAR-10 and CIFAR-100, in the version for Python and in the binary one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from nasdistill.data.base import DATASETS, ImageSet, RawData
from nasdistill.data.files import Download, FileSet, Layout, Located
from nasdistill.data.pickles import NotPlainData, read_plain_pickle
from nasdistill.errors import UserError

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


class Cifar(FileSet):
    """Base of CIFAR-10 and CIFAR-100; the first of `layouts` is the version for Python, the second the binary one."""

    train_files: ClassVar[tuple[str, ...]]
    test_file: ClassVar[str]
    names_file: ClassVar[tuple[str, str]]
    """Of the class names, in either version."""
    labels_key: ClassVar[str]
    names_key: ClassVar[str]
    label_bytes: ClassVar[int]
    """Label bytes before each image in the binary version; the last one counts."""

    def read(self) -> RawData:
        located = self.locate()
        binary = located.layout is self.layouts[1]
        ending = ".bin" if binary else ""
        read = self._read_binary if binary else self._read_pickle
        parts = [read(located, name + ending) for name in self.train_files]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        test_images, test_labels = read(located, self.test_file + ending)
        classes = self._classes(located, binary)
        return RawData(
            train=_image_set(images, labels, classes, located.folder),
            test=_image_set(test_images, test_labels, classes, located.folder),
            classes=classes,
        )

    def _read_pickle(self, located: Located, name: str) -> tuple[Any, Any]:
        content = _plain(located, name)
        path = located.folder / name
        images, labels = content.get("data"), content.get(self.labels_key)
        if not isinstance(labels, list) or not labels or not all(isinstance(label, int) for label in labels):
            raise UserError(
                f"{path} is no batch of {self.registered_name}: it has no list {self.labels_key!r} of numbers"
            )
        if not isinstance(images, np.ndarray) or images.shape != (len(labels), PIXELS):
            raise UserError(
                f"{path} is no batch of {self.registered_name}: 'data' is not {PIXELS} bytes for each label"
            )
        return images, np.array(labels, dtype=np.int64)

    def _read_binary(self, located: Located, name: str) -> tuple[Any, Any]:
        data = located.read(name)
        row = self.label_bytes + PIXELS
        if not data or len(data) % row:
            raise UserError(f"{located.folder / name} is cut: its {len(data)} bytes are no multiple of {row}")
        rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, row)
        return rows[:, self.label_bytes :], rows[:, self.label_bytes - 1].astype(np.int64)

    def _classes(self, located: Located, binary: bool) -> tuple[str, ...]:
        name = self.names_file[binary]
        if binary:
            return tuple(located.read(name).decode("latin1").split())
        names = _plain(located, name).get(self.names_key)
        if not isinstance(names, list):
            raise UserError(f"{located.folder / name} names no classes under {self.names_key!r}")
        return tuple(map(str, names))


def _plain(located: Located, name: str) -> dict[str, Any]:
    try:
        content = read_plain_pickle(located.read(name))
    except NotPlainData as error:
        raise UserError(f"{located.folder / name} is not a file of CIFAR: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{located.folder / name} is not a file of CIFAR: it holds no dictionary")
    return content


def _image_set(images: Any, labels: Any, classes: tuple[str, ...], folder: Path) -> ImageSet:
    if labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(f"labels in {folder} go from {labels.min()} to {labels.max()}, for {len(classes)} classes")
    pixels = torch.from_numpy(np.array(images)).view(-1, *SHAPE)  # a copy: what was read from a file is read-only
    return ImageSet(pixels, torch.from_numpy(labels))


@DATASETS.register("cifar10")
class Cifar10(Cifar):
    """60,000 colour photographs of 32x32 pixels in 10 classes, 10,000 of them the test set."""

    source: ClassVar[str] = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout(
            "cifar-10-batches-py",
            {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
                "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
            },
        ),
        Layout(
            "cifar-10-batches-bin",
            dict.fromkeys(
                [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin", "batches.meta.txt"]
            ),
        ),
    )
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",), md5="c58f30108f718f92721af3b95e74349a"),
    )
    train_files: ClassVar[tuple[str, ...]] = tuple(f"data_batch_{number}" for number in range(1, 6))
    test_file: ClassVar[str] = "test_batch"
    names_file: ClassVar[tuple[str, str]] = ("batches.meta", "batches.meta.txt")
    labels_key: ClassVar[str] = "labels"
    names_key: ClassVar[str] = "label_names"
    label_bytes: ClassVar[int] = 1


@DATASETS.register("cifar100")
class Cifar100(Cifar):
    """60,000 colour photographs of 32x32 pixels in 100 classes (the fine labels), 10,000 of them the test set."""

    source: ClassVar[str] = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout(
            "cifar-100-python",
            {
                "train": "16019d7e3df5f24257cddd939b257f8d",
                "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
                "meta": "7973b15100ade9c7d40fb424638fde48",
            },
        ),
        Layout("cifar-100-binary", dict.fromkeys(["train.bin", "test.bin", "fine_label_names.txt"])),
    )
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",), md5="eb9058c3a382ffc7106e4002c42a8d85"),
    )
    train_files: ClassVar[tuple[str, ...]] = ("train",)
    test_file: ClassVar[str] = "test"
    names_file: ClassVar[tuple[str, str]] = ("meta", "fine_label_names.txt")
    labels_key: ClassVar[str] = "fine_labels"
    names_key: ClassVar[str] = "fine_label_names"
    label_bytes: ClassVar[int] = 2
