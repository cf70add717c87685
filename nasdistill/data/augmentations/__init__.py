"""Augmentations: batched tensor operations, each drawing from the generator that it is given and from nothing else."""

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

    def apply(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Augment a batch; each image has its own random numbers.

        Args:
            images: [N, C, H, W], float and normalised, or uint8 where `normalised` is False; on any device and in any
                memory format, which the result keeps.
            generator: on the CPU, so that a seed gives the same views on every device; the only source of randomness.
        """
        raise NotImplementedError(type(self).__name__)


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentations", Augmentation, "nasdistill.data.augmentations")
