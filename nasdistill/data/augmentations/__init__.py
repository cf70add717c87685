"""Augmentations: batched tensor operations on normalised images, each with its own generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch


class Augmentation(Component):
    """Base of all augmentations."""

    def apply(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Augment a batch.

        Args:
            images: float, [N, C, H, W], normalised, so that zero is the mean colour.
            generator: the only source of randomness; the same state gives the same views.
        """
        raise NotImplementedError(type(self).__name__)


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentations", Augmentation, "nasdistill.data.augmentations")
