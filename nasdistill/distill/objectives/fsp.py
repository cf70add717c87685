"""Flow of the solution procedure: what a network makes of one layer on the way to the next."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.distill.maps import MapPair, map_pairs, pooled_alike
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch


def flow(lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """G_ij = mean over the places of F1_i * F2_j, of two layers of one network.

    Args:
        lower: F1, [N, C, H, W].
        upper: F2, [N, C', H', W']; where the sizes differ, the larger map is averaged down to the smaller.

    Returns:
        [N, C, C'], in single precision at least.

    Source: Yim et al., A Gift from Knowledge Distillation (2017), equation 1.
    """
    first, second = pooled_alike(lower, upper)
    # Autocast would multiply in half precision.
    with torch.autocast(first.device.type, enabled=False):
        return first.flatten(2) @ second.flatten(2).transpose(1, 2) / first[0, 0].numel()


@OBJECTIVES.register("fsp")
class FlowOfSolutionProcedure(Objective):
    """The sum over neighbouring layers of the mean squared difference between both networks' flow matrices.

    A flow matrix has the mean product of each channel of a layer with each of the next one. The two networks may differ
    in depth and in height and width, but not in the channels of the layers that are paired. The mean is one over the
    batch and all entries; the paper writes a sum over the entries, which is C*C' times as large.

    It is published as a stage of its own, before the student sees a label. Here it is a term beside the others, or
    stands alone with a `cross-entropy` of weight 0.
    """

    source = "Yim et al., A Gift from Knowledge Distillation (2017), equations 1 and 2"

    weight: float = Field(
        1.0,
        ge=0,
        description="what the sum over flow matrices is multiplied by; 1 is that of the published stage, and "
        "none is published beside labels",
    )
    pairs: tuple[tuple[str, str], ...] = Field(
        (),
        description="pairs of points, [student's, teacher's], from first to last; each flows to the next; by default "
        "the networks' feature points",
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        pairs = map_pairs("fsp", self.pairs, student, teacher, shape, pooled=False)
        _check(pairs)

        def loss(student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
            distances = [
                functional.mse_loss(
                    flow(student.features[lower.ours], student.features[upper.ours]),
                    flow(teacher.features[lower.theirs], teacher.features[upper.theirs]),
                )
                for lower, upper in pairwise(pairs)
            ]
            return torch.stack(distances).sum()

        return Term(loss, tuple(pair.ours for pair in pairs), tuple(pair.theirs for pair in pairs))


def _check(pairs: tuple[MapPair, ...]) -> None:
    if len(pairs) < 2:
        raise UserError(
            "it compares how one layer flows to the next, and there is only one pair of layers "
            f"({pairs[0].ours}, {pairs[0].theirs}); give two at least, `pairs: [[student's, teacher's], ...]`"
        )
    for pair in pairs:
        if pair.student[0] != pair.teacher[0]:
            raise UserError(
                f"it compares layers of equally many channels in both networks, but the student's {pair.ours} has "
                f"{pair.student[0]} and the teacher's {pair.theirs} {pair.teacher[0]}; name others in `pairs`"
            )
