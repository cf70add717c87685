"""MNIST."""

from __future__ import annotations

from typing import ClassVar

from nasdistill.data.base import DATASETS
from nasdistill.data.files import Download, Layout
from nasdistill.data.idx import IdxSet

PACKED = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


@DATASETS.register("mnist")
class Mnist(IdxSet):
    """70,000 handwritten digits, grey, 28x28 pixels, 10,000 of them the test set."""

    source: ClassVar[str] = "LeCun, Bottou, Bengio and Haffner, Gradient-based learning, 1998"

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("MNIST/raw", PACKED),
        Layout(
            "MNIST/raw",
            {
                "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
                "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
                "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
                "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
            },
        ),
    )
    downloads: ClassVar[tuple[Download, ...]] = tuple(
        Download((f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}",), md5, name) for name, md5 in PACKED.items()
    )
    classes: ClassVar[tuple[str, ...]] = tuple(map(str, range(10)))
