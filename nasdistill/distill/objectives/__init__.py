"""Objectives: what a student is asked to minimise, as a weighted list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Outputs:
    """What a network said about a batch.

    Attributes:
        logits: [N, classes].
        features: module path to the activation there, [N, C, H, W], for the points that an objective asked for.
    """

    logits: torch.Tensor
    features: Mapping[str, torch.Tensor]


class Objective(Component):
    """Base of all objectives."""

    weight: float = Field(1.0, ge=0, description="what this term is multiplied by in the sum")

    def points(self, student: nn.Module, teacher: nn.Module) -> list[tuple[str, str]]:
        """Pairs of module paths (student's, teacher's) whose outputs this objective reads; none by default."""
        return []

    def loss(
        self, student: Outputs, teacher: Outputs, labels: torch.Tensor, pairs: list[tuple[str, str]]
    ) -> torch.Tensor:
        """The unweighted loss of a batch, a scalar; `pairs` is what `points` returned."""
        raise NotImplementedError(type(self).__name__)


OBJECTIVES: Registry[Objective] = Registry("objectives", Objective, "nasdistill.distill.objectives")
