"""Augmentations: batched tensor operations on images and on random numbers that were drawn for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch


class Augmentation(Component):
    """Base of all augmentations."""

    normalised: ClassVar[bool] = True
    """Whether `apply` needs normalised float images, in which zero is the mean colour. One that only moves pixels says
    no: it works on uint8 as well, which is quicker, and gets uint8 where no earlier augmentation needs floats."""

    def draw(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        """The random numbers that decide what becomes of each image, a row for each: [count, ...].

        They are drawn for a whole batch, of which each of several processes augments a share.

        Args:
            size: height and width of the images.
            generator: on the CPU, so that a seed gives the same views on every device; the only source of randomness.
        """
        raise NotImplementedError(type(self).__name__)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Augment images.

        Args:
            images: [N, C, H, W], float and normalised, or uint8 where `normalised` is False; on any device and in any
                memory format, which the result keeps.
            drawn: what `draw` said of these images, [N, ...], on the CPU.
        """
        raise NotImplementedError(type(self).__name__)


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentations", Augmentation, "nasdistill.data.augmentations")
