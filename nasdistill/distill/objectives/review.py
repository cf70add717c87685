"""Knowledge review: what the student knows in its deeper layers helps it with the teacher's earlier ones."""

from __future__ import annotations

import logging

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.data.seeds import generator_for
from nasdistill.distill.learned import LearnedLoss, Preview, reinitialise
from nasdistill.distill.matching import GIVE_PAIRS, Pairs, embedding_point, match_points
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.distill.taps import output_shapes
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch

log = logging.getLogger(__name__)

MOST_CHANNELS = 512
"""Of the maps that the fusion modules hand on; fewer where the student's deepest layer has fewer."""


class Fusion(nn.Module):
    """An attention based fusion module (ABF): a student's map and what comes from deeper, as its teacher's map.

    Args:
        student, middle, teacher: channels of the student's map, of what modules hand on, and of the teacher's map.
        fuse: whether anything comes from deeper; nothing does to the deepest module.

    Source: Chen et al., Distilling Knowledge via Knowledge Review (2021), section 3.3, and its released code.
    """

    def __init__(self, student: int, middle: int, teacher: int, fuse: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(student, middle, 1, bias=False), nn.BatchNorm2d(middle))
        self.attention = nn.Conv2d(2 * middle, 2, 1) if fuse else None
        self.expand = nn.Sequential(nn.Conv2d(middle, teacher, 3, padding=1, bias=False), nn.BatchNorm2d(teacher))

    def forward(
        self, maps: torch.Tensor, deeper: torch.Tensor | None, size: torch.Size
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What is to be the teacher's map, [N, teacher, *size], and what is handed on, [N, middle, *size].

        Args:
            maps: the student's, [N, student, H, W].
            deeper: what the next deeper module handed on, [N, middle, h, w].
            size: height and width of the teacher's map.
        """
        fused: torch.Tensor = self.reduce(maps)
        if self.attention is not None:
            assert deeper is not None
            deeper = functional.interpolate(deeper, fused.shape[2:], mode="nearest")
            own, others = self.attention(torch.cat([fused, deeper], dim=1)).sigmoid().split(1, dim=1)
            fused = own * fused + others * deeper
        if fused.shape[2:] != size:
            fused = functional.interpolate(fused, size, mode="nearest")
        return self.expand(fused), fused


def hierarchical_context_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of two maps [N, C, H, W], at their size and averaged down to 4x4, 2x2 and 1x1: a scalar.

    Weighted by 1, 1/2, 1/4, 1/8, divided by the sum of these; sizes not below the maps' own are left out, and have no
    weight.

    Source: Chen et al., Distilling Knowledge via Knowledge Review (2021), section 3.3, weights of its released code.
    """
    ours, theirs = (maps.to(torch.promote_types(maps.dtype, torch.float32)) for maps in (student, teacher))
    loss, weight, total = functional.mse_loss(ours, theirs), 1.0, 1.0
    for side in (4, 2, 1):
        if side < min(ours.shape[2:]):
            weight /= 2
            total += weight
            own, taught = (functional.adaptive_avg_pool2d(maps, side) for maps in (ours, theirs))
            loss = loss + weight * functional.mse_loss(own, taught)
    return loss / total


@OBJECTIVES.register("review")
class Review(Objective):
    """The sum over pairs of layers of the distance between the teacher's map and what fusion modules make of it.

    From the deepest pair to the first, a fusion module makes a map of the teacher's size and channels out of the
    student's map and of what the deeper modules found; attention weighs the two at each place. The distance is a mean
    over batch, channels and places, at several resolutions. The modules learn with the student, and are no part of what
    is kept of it. Vectors count as maps of one place. Published with the weights 0.6 to 8 (5 for most pairs on
    CIFAR-100), `warmup: 20` of 240 epochs, and teachers' maps from before a rectifier.
    """

    source = "Chen et al., Distilling Knowledge via Knowledge Review (2021), section 3, and its released code"

    weight: float = Field(5.0, ge=0, description="what the sum over pairs is multiplied by; the labels keep theirs")
    pairs: tuple[tuple[str, str], ...] = Field(
        (),
        description="pairs of points, [student's, teacher's], the deepest last; by default the networks' feature "
        "points and their embeddings",
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        pairs = self.pairs or _default_pairs(student, teacher, shape)
        ours, theirs = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
        found = output_shapes(student, ours, shape, "student"), output_shapes(teacher, theirs, shape, "teacher")
        channels = [
            (_channels(found[0], point, "student"), _channels(found[1], other, "teacher")) for point, other in pairs
        ]
        for point, other in pairs:
            log.info("review: %s %s learns from %s %s", point, list(found[0][point]), other, list(found[1][other]))
        return Term(KnowledgeReview(pairs, channels), ours, theirs)


class KnowledgeReview(LearnedLoss):
    """The fusion modules and the loss of their maps.

    Args:
        pairs: points of student and teacher, the deepest last.
        channels: at these points.
    """

    def __init__(self, pairs: Pairs, channels: list[tuple[int, int]]) -> None:
        super().__init__()
        self.pairs = pairs
        middle = min(MOST_CHANNELS, channels[-1][0])
        deepest = len(channels) - 1
        self.fusions = nn.ModuleList(
            Fusion(ours, middle, theirs, fuse=place < deepest) for place, (ours, theirs) in enumerate(channels)
        )

    def prepare(self, preview: Preview) -> None:
        """Draw the modules by the seed alone."""
        reinitialise(self.fusions, generator_for(preview.seed, "review"))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        losses, deeper = [], None
        for fusion, (ours, theirs) in zip(reversed(self.fusions), reversed(self.pairs), strict=True):
            taught = _maps(teacher.features[theirs])
            made, deeper = fusion(_maps(student.features[ours]), deeper, taught.shape[2:])
            losses.append(hierarchical_context_loss(made, taught))
        return torch.stack(losses).sum()


def _default_pairs(student: nn.Module, teacher: nn.Module, shape: Shape) -> Pairs:
    embeddings = (
        embedding_point(student, shape, "student", GIVE_PAIRS),
        embedding_point(teacher, shape, "teacher", GIVE_PAIRS),
    )
    return (*match_points(student, teacher, shape), embeddings)


def _channels(shapes: dict[str, tuple[int, ...]], point: str, whose: str) -> int:
    shape = shapes[point]
    if len(shape) not in (1, 3):
        raise UserError(
            f"review reads vectors, and maps of channels, height and width, but the {whose}'s module {point!r} puts "
            f"out {list(shape)} per image"
        )
    return shape[0]


def _maps(activation: torch.Tensor) -> torch.Tensor:
    """Maps as they are, and vectors [N, D] as maps [N, D, 1, 1]."""
    return activation if activation.ndim == 4 else activation[:, :, None, None]
