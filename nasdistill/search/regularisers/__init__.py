"""Regularisers: terms of the loss that the architecture minimises, beside the cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from nasdistill.errors import UserError, written_at
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch

    from nasdistill.search.mixture import Mixture
    from nasdistill.search.spaces.cells import CellSpace


class Regulariser(Component):
    """Base of all regularisers."""

    weight: float = Field(1.0, description="what this term is multiplied by in the architecture's loss")

    def loss(self, space: CellSpace, mixture: Mixture) -> torch.Tensor:
        """The term of one kind of cell, a scalar, without `weight`; the mean over normal and reduction cells counts."""
        raise NotImplementedError(type(self).__name__)

    def checked(self, space: CellSpace, mixture: Mixture) -> torch.Tensor:
        """`loss`.

        Raises:
            UserError: it is no scalar tensor.
        """
        import torch

        value = self.loss(space, mixture)
        if not isinstance(value, torch.Tensor) or value.ndim > 0:
            got = f"a tensor {list(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            who = f"{self.registered_name!r} ({type(self).__name__}, {written_at(type(self))})"
            raise UserError(f"the loss of the regulariser {who} must be a scalar tensor, got {got}")
        return value


REGULARISERS: Registry[Regulariser] = Registry("regularisers", Regulariser, "nasdistill.search.regularisers")
