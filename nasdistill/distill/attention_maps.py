"""Where a network and its teachers, if it has any, look: attention maps on test images, as plain data for a report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Data, Shape
from nasdistill.data.grids import grid, pixel_grids
from nasdistill.data.loaders import evaluation_batches
from nasdistill.distill.attention import attention_map
from nasdistill.distill.maps import pooled_alike
from nasdistill.distill.matching import match_points
from nasdistill.distill.objectives import Objective, Outputs
from nasdistill.distill.objectives.attention import Attention
from nasdistill.distill.taps import output_shapes
from nasdistill.distill.teacher import FrozenTeacher, Teacher
from nasdistill.errors import SpecError, UserError
from nasdistill.models.inspection import feature_points
from nasdistill.training.engine import Engine

log = logging.getLogger(__name__)

ATTENTION = "attention.json"
CLASSES_SHOWN = 6
COMPARED = 500
"""Test images, evenly spread over the set, over which the similarity is a mean."""
LARGEST_MAP = 32
"""Pixels of the longer side as written; with at most 12 images this keeps the file below a megabyte."""


class PointPair(NamedTuple):
    """A point of the student, and beside it one of a teacher and which teacher that is, unless it is shown alone."""

    student: str
    teacher: str | None = None
    number: int | None = None


def images_to_show(asked: Sequence[int] | None, labels: torch.Tensor) -> list[int]:
    """The places in the test set of the images that are shown: those asked for, or the first of each of six classes.

    Args:
        labels: of the test images, int64, [N].

    Raises:
        SpecError: at `show`: there is no such image.
    """
    if asked is None:
        present = sorted(set(labels.tolist()))[:CLASSES_SHOWN]
        return [int((labels == label).nonzero()[0]) for label in present]
    for position, index in enumerate(asked):
        if index >= len(labels):
            raise SpecError(f"there is no test image {index}; the last one is {len(labels) - 1}", ("show", position))
    return list(asked)


def attention_similarity(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The cosine between two attention maps [N, H, W] of each image, [N]: 1 where both look alike.

    As maps hold no negative values it is at least 0. Maps of unequal size are averaged down to the smaller one, as in
    attention transfer, whose distance it is: ||q_s - q_t||_2^2 = 2 - 2 * cosine.
    """
    ours, theirs = (maps.flatten(1) for maps in pooled_alike(student, teacher))
    return functional.cosine_similarity(ours, theirs, dim=1)


def compare_attention(
    student: nn.Module,
    teachers: Sequence[Teacher],
    objectives: Sequence[Objective],
    show: Sequence[int],
    data: Data,
    engine: Engine,
    points: Sequence[str] | None = None,
) -> dict[str, Any] | None:
    """The attention maps of a student and of its teachers, at the pairs of points that attention transfer reads.

    The pairs and the power are those of the first listed `attention`, else its defaults. Without a teacher they are
    the student's own `points`, and there is no similarity.

    Args:
        student: on the engine's device; all networks are left as they are.
        teachers: none for a network that was trained without.
        show: places in the test set of the images whose maps are wanted, at most 12.
        points: module paths in a network without a teacher; its feature points if left out.

    Returns:
        `similarity`, the mean of the pairs' (None without a teacher); `images`, each with its `index`, `label`,
        predicted labels (`student`, `teachers`) and `pixels`, a grid per channel; `pairs`, each with the module paths
        `student` and `teacher`, the `number` of the teacher, the `similarity` over 500 test images, and `maps`: per
        image the student's grid and the teacher's, if there is one, divided by its largest value. A grid is a list of
        rows, two hexadecimal digits a value, 00 to ff.
        None where nothing is to be shown or the networks have no maps that match.
    """
    if data.words is not None:
        return None  # tokens are no picture to lay a map over
    attention = next((objective for objective in objectives if isinstance(objective, Attention)), Attention())
    pairs: list[PointPair] = []
    if show:
        for number, teacher in enumerate(teachers):
            pairs += _pairs(student, teacher.network, number, attention, data.shape)
        if not teachers:
            pairs = _own_points(student, feature_points(student, data.shape) if points is None else points, data.shape)
    if not pairs:
        return None

    frozen = [FrozenTeacher(Teacher(student), data.shape, [pair.student for pair in pairs], None)]
    for number, teacher in enumerate(teachers):
        points = [pair.teacher for pair in pairs if pair.teacher is not None and pair.number == number]
        frozen.append(FrozenTeacher(teacher, data.shape, points, data.normalisation))
    for network in frozen:
        network.apply(lambda tensor: tensor.to(engine.device))

    def seen(places: torch.Tensor) -> Iterator[tuple[torch.Tensor, list[Outputs]]]:
        """Images, and the outputs of the student and then of each teacher."""
        for batch in evaluation_batches(data.test.subset(places), data, engine, batch_size=100).epoch(0):
            with engine.autocast():
                outputs = [network(batch.images) for network in frozen]
            yield batch.images, outputs

    def maps(outputs: Sequence[Outputs], pair: PointPair) -> list[torch.Tensor]:
        """Of the student, and of the teacher if there is one."""
        activations = [outputs[0].features[pair.student]]
        if pair.teacher is not None and pair.number is not None:
            activations.append(outputs[1 + pair.number].features[pair.teacher])
        return [attention_map(activation, attention.power).cpu() for activation in activations]

    def mean_similarities() -> list[float]:
        count = len(data.test)
        spread = torch.linspace(0, count - 1, min(count, COMPARED)).round().long()
        alike = [
            [attention_similarity(*maps(outputs, pair)).double().sum() for pair in pairs]
            for _images, outputs in seen(spread)
        ]
        found: list[float] = (torch.tensor(alike).sum(dim=0) / len(spread)).tolist()
        return found

    similarities: list[float] | list[None] = mean_similarities() if teachers else [None] * len(pairs)
    ((images, outputs),) = seen(torch.tensor(show))
    predicted = [[data.classes[label] for label in each.logits.argmax(1).tolist()] for each in outputs]
    shown = [[[_map(one) for one in of_image] for of_image in zip(*maps(outputs, pair), strict=True)] for pair in pairs]
    return {
        "similarity": sum(filter(None, similarities)) / len(pairs) if teachers else None,
        "images": [
            {
                "index": index,
                "label": data.classes[int(data.test.labels[index])],
                "student": ours,
                "teachers": theirs,
                "pixels": pixel_grids(image, data.normalisation),
            }
            for index, image, (ours, *theirs) in zip(show, images.cpu(), zip(*predicted, strict=True), strict=True)
        ],
        "pairs": [
            {**pair._asdict(), "similarity": similarity, "maps": grids}
            for pair, similarity, grids in zip(pairs, similarities, shown, strict=True)
        ],
    }


def _pairs(student: nn.Module, teacher: nn.Module, number: int, attention: Attention, shape: Shape) -> list[PointPair]:
    """The pairs of points that both are maps of more than one pixel."""
    try:
        matched = attention.pairs or match_points(student, teacher, shape)
        ours = output_shapes(student, [pair[0] for pair in matched], shape, "student")
        theirs = output_shapes(teacher, [pair[1] for pair in matched], shape, "teacher")
    except UserError as error:
        reason, _, _advice = str(error).partition(";")  # which is for those who have such an objective
        log.info("no attention maps are kept for the report: %s", reason)
        return []
    found = [PointPair(one, other, number) for one, other in matched if _is_map(ours[one]) and _is_map(theirs[other])]
    if not found:
        log.info("no attention maps are kept for the report: the points that match have no height and width")
    return found


def _own_points(network: nn.Module, points: Sequence[str], shape: Shape) -> list[PointPair]:
    """Those of a network's points that are maps of more than one pixel; none where they cannot be read."""
    if not points:
        return []
    try:
        sizes = output_shapes(network, points, shape, "network")
    except UserError as error:
        log.info("no attention maps are kept for the report: %s", error)
        return []
    return [PointPair(point) for point, size in sizes.items() if _is_map(size)]


def _is_map(size: Sequence[int]) -> bool:
    """Whether an image's activation of this size is a map of more than one pixel."""
    return len(size) == 3 and size[1] * size[2] > 1


def _map(attention: torch.Tensor) -> list[str]:
    """An attention map [H, W] divided by its largest value, as a grid."""
    return grid(attention / attention.max().clamp_min(torch.finfo(attention.dtype).tiny), LARGEST_MAP)
