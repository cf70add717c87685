"""Pairs of maps: layers of a student and of its teacher that put out channels, height and width."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.distill.matching import Pairs, match_points
from nasdistill.distill.taps import output_shapes
from nasdistill.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MapPair:
    """A point of the student and one of its teacher.

    Attributes:
        ours, theirs: the points in the student and in the teacher.
        student, teacher: the shapes there for one image, [C, H, W].
    """

    ours: str
    theirs: str
    student: tuple[int, ...]
    teacher: tuple[int, ...]


def map_pairs(
    objective: str, pairs: Pairs, student: nn.Module, teacher: nn.Module, shape: Shape, pooled: bool = True
) -> tuple[MapPair, ...]:
    """The pairs that were asked for, or those of the networks' feature points, with their shapes.

    Args:
        objective: names itself in the log.
        pairs: points, [student's, teacher's]; none for the networks' feature points, see `match_points`.
        pooled: whether the objective pools the larger map of a pair, so that the log says so.

    Raises:
        UserError: a point is no map, or the networks' points do not match by themselves.
    """
    chosen = pairs or match_points(student, teacher, shape)
    ours = _shapes_of_maps(student, [pair[0] for pair in chosen], shape, "student")
    theirs = _shapes_of_maps(teacher, [pair[1] for pair in chosen], shape, "teacher")
    found = tuple(MapPair(one, other, ours[one], theirs[other]) for one, other in chosen)
    for pair in found:
        if pooled and pair.student[1:] != pair.teacher[1:]:
            log.info(
                "%s: the student's %s is %dx%d, the teacher's %s %dx%d; the larger is pooled to the smaller",
                *(objective, pair.ours, *pair.student[1:], pair.theirs, *pair.teacher[1:]),
            )
    return found


def with_places(objective: str, pairs: tuple[MapPair, ...]) -> tuple[MapPair, ...]:
    """Those pairs in which there is more than one place, for objectives that compare how places share a map.

    A map of one place has all of its share there, whatever the network computes, so that no gradient comes of it.

    Raises:
        UserError: no pair has.
    """

    def places(pair: MapPair) -> int:
        return min(pair.student[1], pair.teacher[1]) * min(pair.student[2], pair.teacher[2])

    single = ", ".join(f"{pair.ours} with {pair.theirs}" for pair in pairs if places(pair) == 1)
    found = tuple(pair for pair in pairs if places(pair) > 1)
    if not found:
        raise UserError(
            f"it compares where on a map a network responds, and what is paired has one place ({single}); name layers "
            "below in `pairs`, or leave the objective out"
        )
    if single:
        log.info("%s: one place has nothing to compare, so that it leaves out %s", objective, single)
    return found


def pooled_alike(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two batches of maps, [N, C, H, W] or [N, H, W] each, averaged down to the smaller height and width; in single
    precision at least."""
    size = (min(one.shape[-2], other.shape[-2]), min(one.shape[-1], other.shape[-1]))
    return _pooled(one, size), _pooled(other, size)


def _pooled(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return maps if maps.shape[-2:] == size else functional.adaptive_avg_pool2d(maps, size)


def _shapes_of_maps(network: nn.Module, points: list[str], shape: Shape, whose: str) -> dict[str, tuple[int, ...]]:
    shapes = output_shapes(network, points, shape, whose)
    for point, found in shapes.items():
        if len(found) != 3:
            raise UserError(
                "it compares maps of channels, height and width, "
                f"but the {whose}'s module {point!r} puts out {list(found)} per image"
            )
    return shapes
