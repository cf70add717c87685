"""Street View House Numbers, the cropped digits, and the same made to look like MNIST."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from nasdistill.data.base import DATASETS, LUMA, Images, ImageSet, RawData
from nasdistill.data.files import Download, FileSet, Layout, Located
from nasdistill.errors import UserError

MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
MNIST_SIDE = 28
IMAGES_AT_ONCE = 4096


@DATASETS.register("svhn")
class Svhn(FileSet):
    """99,289 house-number digits in colour, cropped to 32x32 pixels, 26,032 of them the test set."""

    source: ClassVar[str] = "Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011"

    layouts: ClassVar[tuple[Layout, ...]] = (Layout("", MD5), Layout("svhn", MD5))
    downloads: ClassVar[tuple[Download, ...]] = tuple(
        Download((f"https://ufldl.stanford.edu/housenumbers/{name}",), md5, name) for name, md5 in MD5.items()
    )

    def read(self) -> RawData:
        located = self.locate()
        return RawData(
            train=_image_set(located, "train_32x32.mat"),
            test=_image_set(located, "test_32x32.mat"),
            classes=tuple(map(str, range(10))),
        )


def _image_set(located: Located, name: str) -> ImageSet:
    """`X`, uint8, [32, 32, 3, N], and `y`, [N, 1], in which 10 stands for the digit 0."""
    from scipy.io import loadmat

    path = located.folder / name
    data = located.read(name)
    try:
        content = loadmat(io.BytesIO(data), variable_names=["X", "y"])
        images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
    except Exception as error:  # scipy's reader fails on damaged files in many ways
        raise UserError(f"{path} is not a file of SVHN: {type(error).__name__}: {error}") from None
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
        raise UserError(f"{path} is not a file of SVHN: X is {images.dtype} of shape {images.shape}")
    if not len(labels) or labels.min() < 1 or labels.max() > 10:
        raise UserError(f"{path} is not a file of SVHN: the labels in y are not 1 to 10")
    pixels = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
    return ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels % 10))


def grey_and_small(images: torch.Tensor) -> torch.Tensor:
    """Luma, resized by a bilinear filter with antialiasing, rounded once: uint8, [N, 3, H, W] to [N, 1, 28, 28].

    Source: ITU-R BT.601, section 2.5.1, for the luma 0.299*R + 0.587*G + 0.114*B.
    """
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    parts = []
    for part in torch.split(images, IMAGES_AT_ONCE):
        luma = (part * weights).sum(1, keepdim=True)
        small = functional.interpolate(luma, size=(MNIST_SIDE, MNIST_SIDE), mode="bilinear", antialias=True)
        parts.append(small.round().clamp(0, 255).to(torch.uint8))
    return torch.cat(parts)


@DATASETS.register("svhn-as-mnist")
class SvhnAsMnist(Svhn):
    """The cropped digits of SVHN as MNIST has them: grey and 28x28 pixels; 26,032 of 99,289 are the test set.

    Grey is luma (ITU-R BT.601); the size is reached by a bilinear filter with antialiasing.
    """

    def read(self) -> RawData:
        source = super().read()
        return replace(source, train=_converted(source.train), test=_converted(source.test))


def _converted(images: Images) -> ImageSet:
    assert isinstance(images, ImageSet)  # as SVHN reads them
    return ImageSet(grey_and_small(images.images), images.labels)
