"""What the edges of a relaxed cell carry: forward passes, curves, regularisers and selections all read this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Moment:
    """When a mixture is asked for.

    Attributes:
        progress: share of the search's epochs that are done, 0 to 1.
        half: of the images whose pass reads it, "training" (of the weights) or "validation" (of the architecture);
            empty where nothing is trained, as for curves and at the end: there a sampler draws nothing.
    """

    progress: float = 0.0
    half: str = ""


@dataclass(frozen=True)
class Mixture:
    """What the edges of one kind of cell carry at a moment; rows are those of `CellSpace.edges`, columns of a row those
    of `CellSpace.offered`.

    Attributes:
        cell: "normal" or "reduce".
        moment: when.
        alphas: what is learned, [edges, operations].
        weights: of the operations on each edge, which the sampler made of the alphas, [edges, operations].
        shares: of each edge in the sum at its node, [edges]; None where all count 1.
        computed: by edge and operation whether it is computed at all; None where all are.
    """

    cell: str
    moment: Moment
    alphas: torch.Tensor
    weights: torch.Tensor
    shares: torch.Tensor | None = None
    computed: Sequence[Sequence[bool]] | None = None

    def of(self, rows: list[int]) -> Mixture:
        """That of some edges."""
        return replace(
            self,
            alphas=self.alphas[rows],
            weights=self.weights[rows],
            shares=None if self.shares is None else self.shares[rows],
            computed=None if self.computed is None else [self.computed[row] for row in rows],
        )

    def strengths(self) -> torch.Tensor:
        """Of the operations in their node's sum, [edges, operations]."""
        return self.weights if self.shares is None else self.weights * self.shares[:, None]

    def entropy(self) -> float:
        """Mean over the edges of the entropy of their operations' weights, scaled to the sum 1, in nats."""
        import torch

        total = self.weights.sum(dim=1, keepdim=True)
        return float(torch.special.entr(self.weights / total).sum(dim=1).mean().item())
