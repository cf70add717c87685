"""Augmentations: batched tensor operations on images, and on their labels, by random numbers drawn for each image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch


class Augmentation(Component):
    """Base of all augmentations."""

    normalised: ClassVar[bool] = True
    """Whether `apply` needs normalised float images, in which zero is the mean colour. One that only moves pixels says
    no: it works on uint8 as well, which is quicker, and gets uint8 where no earlier augmentation needs floats."""

    def sample(self, count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
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
            drawn: what `sample` gave for these images, [N, ...], on the CPU.
        """
        raise NotImplementedError(type(self).__name__)


class PixelAugmentation(Augmentation):
    """Base of augmentations of colours: they get uint8 images alone, before any that needs normalised ones."""

    normalised: ClassVar[bool] = False


class EpochAugmentation(Augmentation):
    """Base of augmentations that treat an image by its turn: a subclass defines `sample_at` in place of `sample`."""

    def sample_at(self, indices: torch.Tensor, count: int, epoch: int, generator: torch.Generator) -> torch.Tensor:
        """What becomes of each image in an epoch, [N, ...].

        Args:
            indices: which of the training images these are, int64, [N].
            count: of all training images.
            epoch: counted from 0; where a training repeats a few views, that of the view.
            generator: on the CPU, the same for all batches and epochs.
        """
        raise NotImplementedError(type(self).__name__)


class BatchAugmentation(Augmentation):
    """Base of augmentations that mix the images of a batch and their labels.

    A subclass defines `sample` as others do, and `mix` in place of `apply`. The batch is the whole one, in random order
    already, also where several processes share it: each then augments all of it and keeps its share.
    """

    def mix(
        self, images: torch.Tensor, targets: torch.Tensor, drawn: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and targets of the same shapes and types.

        Args:
            images: as in `apply`.
            targets: float32, [N, classes]: each image's distribution over the classes times the image's weight, which
                is 1 but for `balance: loss`.
            drawn: what `sample` gave for these images, [N, ...], on the CPU.
        """
        raise NotImplementedError(type(self).__name__)


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentations", Augmentation, "nasdistill.data.augmentations")


def mixing(augmentations: Iterable[Augmentation]) -> list[str]:
    """The names of those that mix labels."""
    return [each.registered_name for each in augmentations if isinstance(each, BatchAugmentation)]
