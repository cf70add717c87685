"""Street View House Numbers, made to look like MNIST."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional

from nasdistill.data.base import DATASETS, LUMA, Images, ImageSet, RawData
from nasdistill.data.sets.svhn import Svhn

SIDE = 28
IMAGES_AT_ONCE = 4096


def grey_and_small(images: torch.Tensor) -> torch.Tensor:
    """Luma, resized by a bilinear filter with antialiasing, rounded once: uint8, [N, 3, H, W] to [N, 1, 28, 28].

    Source: ITU-R BT.601, section 2.5.1, for the luma 0.299*R + 0.587*G + 0.114*B.
    """
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    parts = []
    for part in torch.split(images, IMAGES_AT_ONCE):
        luma = (part * weights).sum(1, keepdim=True)
        small = functional.interpolate(luma, size=(SIDE, SIDE), mode="bilinear", antialias=True)
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
