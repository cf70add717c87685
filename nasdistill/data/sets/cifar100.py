"""CIFAR-100."""

from __future__ import annotations

from typing import ClassVar

from nasdistill.data.base import DATASETS
from nasdistill.data.cifar import Cifar
from nasdistill.data.files import Download, Layout


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
