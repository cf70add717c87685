"""Regularisers: terms of the loss that the architecture minimises, beside the cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch

    from nasdistill.search.mixture import Mixture
    from nasdistill.search.spaces.cells import CellSpace


class Regulariser(Component):
    """Base of all regularisers."""

    weight: float = Field(1.0, description="what this term is multiplied by in the architecture's loss")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if not self.weight:
            yield "weight", "it is 0, so that the term adds nothing"

    def loss(self, space: CellSpace, mixture: Mixture) -> torch.Tensor:
        """The term of one kind of cell, a scalar, without `weight`; the mean over normal and reduction cells counts."""
        raise NotImplementedError(type(self).__name__)

    def checked(self, space: CellSpace, mixture: Mixture) -> torch.Tensor:
        """`loss`, if it is one; see `nasdistill.training.losses.checked_loss`."""
        from nasdistill.training.losses import checked_loss

        return checked_loss(self.loss(space, mixture), f"regulariser {self.registered_name!r}", type(self))


REGULARISERS: Registry[Regulariser] = Registry("regularisers", Regulariser, "nasdistill.search.regularisers")
