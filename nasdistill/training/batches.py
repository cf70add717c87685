"""Batches: what a step of any loop sees, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import torch


class Batch(NamedTuple):
    """What one step sees.

    Attributes:
        images: float, [N, C, H, W], normalised and augmented.
        labels: int64, [N].
        indices: int64, [N], on the CPU: the images' places in their set.
        taught: what the teachers said of these very views, where that was kept; see `nasdistill.distill.kept`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    taught: Mapping[str, torch.Tensor] = {}


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

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the batch `start` on."""
        ...
