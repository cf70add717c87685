"""Generators: what makes pseudo-images out of noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from nasdistill.data.base import Shape
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn


class Generator(Component):
    """Base of all generators.

    What `build` returns maps latents [N, latent(shape)], drawn from N(0, 1), to pseudo-images [N, C, H, W] in the
    normalised space in which the teacher reads images, or to pixels, see `makes_pixels`.
    """

    starts_over: ClassVar[bool] = False
    """Whether it is drawn anew for each pseudo-batch; else it learns over all of them."""

    told_classes: ClassVar[bool] = False
    """Whether it reads the class that each image should have, int64, [N], after the latents."""

    even_classes: ClassVar[bool] = False
    """Whether the classes of a pseudo-batch are to be rounds of all, each in an order drawn anew; else each is drawn by
    itself."""

    makes_embeddings: ClassVar[bool] = False
    """Whether it makes embeddings of texts in place of images; nothing else teaches a network that reads texts."""

    def latent(self, shape: Shape) -> int:
        """Numbers that each pseudo-image is made from."""
        return 100

    @property
    def makes_pixels(self) -> bool:
        """Whether its values are pixels, black 0 and white 1, which are normalised for the teacher afterwards."""
        return False

    def share(self, student: nn.Module, teachers: Sequence[nn.Module]) -> None:
        """Give the student what it must have of its teachers to read what this makes; by default nothing.

        Raises:
            UserError: these networks cannot read it.
        """

    def moved(self, images: torch.Tensor) -> torch.Tensor:
        """Images, [N, C, H, W], as the losses of one step see them; by default as they are. The student's never are."""
        return images

    def check_classes(self, classes: int, names: Sequence[str] | None) -> None:
        """Refuse classes that it cannot be told; by default none are.

        Args:
            names: of the classes, in order; None where nobody knows them.

        Raises:
            SpecError: at an option of this generator.
        """

    def build(self, shape: Shape, images: int, classes: int) -> nn.Module:
        """The network with freshly drawn weights from torch's global generator.

        Args:
            shape: of a pseudo-image: channels, height and width.
            images: of a pseudo-batch, on this process.
            classes: how many the networks tell apart.

        Raises:
            UserError: it makes no images of this shape.
        """
        raise NotImplementedError(type(self).__name__)


GENERATORS: Registry[Generator] = Registry("generators", Generator, "nasdistill.zero_shot.generators")
