"""Batches: what a step of any loop sees, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch

NO_LABEL = -1
"""Stands for the class of an image that has none."""


class Batch(NamedTuple):
    """What one step sees.

    Attributes:
        images: float, [N, C, H, W], normalised and augmented.
        labels: the class of each image, int64, [N], or `NO_LABEL`; where an augmentation mixed the images, their
            distributions over the classes, float, [N, classes], which lack what images without a class were mixed in
            with. torch's cross-entropy takes both, with `ignore_index=NO_LABEL`.
        indices: int64, [N], on the CPU: the images' places in their set.
        taught: their teachers' outputs, where these are cached; see `nasdistill.distill.cached_outputs`.
        weights: float, [N], what each image counts in losses that are means over images; all the same if None.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    taught: Mapping[str, torch.Tensor] = {}
    weights: torch.Tensor | None = None

    def mean(self, losses: torch.Tensor) -> torch.Tensor:
        """The mean of what each image lost, [N], to a scalar: sum of weight * loss over N, the weights 1 on average."""
        return (losses if self.weights is None else losses * self.weights).mean()


class Batches(Protocol):
    """Images in batches, as `nasdistill.data.loaders` makes them."""

    @property
    def samples(self) -> int:
        """Images of an epoch."""
        ...

    def __len__(self) -> int: ...

    @property
    def labels(self) -> torch.Tensor:
        """Of all images, in the order of the set: int64, [N]."""
        ...

    def epoch(self, number: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """The batches of epoch `number` from the batch `start` on, before the batch `stop` if there is one."""
        ...
