"""Divergences: how far a student's predictions lie from its teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch


class Divergence(Component):
    """Base of all divergences. A student minimises one; the generator of zero-shot transfer maximises it.

    A divergence is 0 where both predict the same, gradients reach both, and a subclass defines `of_images`.
    """

    reduction: Literal["mean", "batchmean"] = Field(
        "mean",
        description="mean: over images and classes, as the released codes of zero-shot transfer (kl) and of DFAD (l1) "
        "have it; batchmean: over images alone, which is `classes` times as large",
    )

    def between(self, student: torch.Tensor, teacher: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """The divergence of a batch, reduced to a scalar.

        Args:
            student: logits, [N, classes], in single precision.
            teacher: the same.
            counts: bool, [N]: images that count, in a mean over all; None for all.
        """
        each = self.of_images(student, teacher)
        mean = (each if counts is None else each * counts).mean()
        return mean if self.reduction == "batchmean" else mean / student.shape[1]

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """The divergence of each image, [N], a sum over the classes, from logits [N, classes]."""
        raise NotImplementedError(type(self).__name__)


DIVERGENCES: Registry[Divergence] = Registry("divergences", Divergence, "nasdistill.distill.divergences")
