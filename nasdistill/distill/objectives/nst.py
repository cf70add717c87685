"""Neuron selectivity transfer: the student's channels fire at the places where its teacher's do."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.distill.maps import map_pairs, pooled_alike, with_places
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.training.batches import Batch


def selectivity_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared maximum mean discrepancy of two layers' channels, mean over the batch; a scalar.

    A channel is its map, divided by its L2 norm; the kernel is k(x, y) = (x . y)^2. With means over pairs of channels
    the discrepancy is mean k(s, s') + mean k(t, t') - 2 * mean k(s, t).

    Args:
        student: [N, C, H, W].
        teacher: [N, C', H', W']; where the sizes differ, the larger map is averaged down to the smaller.

    Source: Huang and Wang, Like What You Like (2017), section 4, with the polynomial kernel of d = 2, c = 0.
    """
    ours, theirs = (functional.normalize(maps.flatten(2), dim=2) for maps in pooled_alike(student, teacher))

    def kernel(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one @ other.transpose(1, 2)).square().mean()

    # Autocast would multiply in half precision.
    with torch.autocast(ours.device.type, enabled=False):
        return kernel(ours, ours) + kernel(theirs, theirs) - 2 * kernel(ours, theirs)


@OBJECTIVES.register("nst")
class NeuronSelectivityTransfer(Objective):
    """The sum over pairs of layers of the squared maximum mean discrepancy between their channels' places of firing.

    Channels of unequal numbers can be compared, as each network's are a sample of where channels fire. The kernel is
    polynomial, (x . y)^2 of maps of length 1, as in the released code, which leaves the teacher's own term out: a
    constant, with which the loss is 0 where the student agrees.
    """

    source = "Huang and Wang, Like What You Like (2017), section 4, and its released code"

    weight: float = Field(
        50.0, ge=0, description="what the sum over pairs is multiplied by; 50 is that of the released code for one pair"
    )
    pairs: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of points, [student's, teacher's]; by default the networks' feature points"
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        pairs = with_places("nst", map_pairs("nst", self.pairs, student, teacher, shape))

        def loss(student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
            distances = [
                selectivity_distance(student.features[pair.ours], teacher.features[pair.theirs]) for pair in pairs
            ]
            return torch.stack(distances).sum()

        return Term(loss, tuple(pair.ours for pair in pairs), tuple(pair.theirs for pair in pairs))
