"""Fashion-MNIST."""

from __future__ import annotations

from typing import ClassVar

from nasdistill.data.base import DATASETS
from nasdistill.data.files import Download, Layout
from nasdistill.data.idx import IdxSet

PACKED = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
# The authors' own repository: their other address offers no https.
ADDRESS = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"


@DATASETS.register("fashion-mnist")
class FashionMnist(IdxSet):
    """70,000 pictures of clothes, grey, 28x28 pixels, in 10 classes, 10,000 of them the test set."""

    source: ClassVar[str] = "Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017"

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("FashionMNIST/raw", PACKED),
        Layout(
            "FashionMNIST/raw",
            {
                "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
                "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
                "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
            },
        ),
    )
    downloads: ClassVar[tuple[Download, ...]] = tuple(
        Download((f"{ADDRESS}/{name}",), md5, name) for name, md5 in PACKED.items()
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
