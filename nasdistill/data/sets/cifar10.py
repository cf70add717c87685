"""CIFAR-10."""

from __future__ import annotations

from typing import ClassVar

from nasdistill.data.base import DATASETS
from nasdistill.data.cifar import Cifar
from nasdistill.data.files import Download, Layout


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
