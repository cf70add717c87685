"""Divergences: how far what a student believes lies from what its teacher believes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch


class Divergence(Component):
    """Base of all divergences. A student minimises one; the generator of zero-shot transfer maximises it."""

    def between(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """A scalar that is 0 where both believe the same; gradients reach both.

        Args:
            student: logits, [N, classes], in single precision.
            teacher: the same.
        """
        raise NotImplementedError(type(self).__name__)


DIVERGENCES: Registry[Divergence] = Registry("divergences", Divergence, "nasdistill.distill.divergences")
