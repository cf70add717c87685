"""Which points of a student and its teacher go together where nobody said: layers, and embeddings."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.taps import INPUT, output_shapes
from nasdistill.errors import UserError
from nasdistill.models.ensemble import EnsembleNetwork
from nasdistill.models.inspection import feature_points, run_order

Pairs = tuple[tuple[str, str], ...]
GIVE_A_PAIR = "give the pair of points, `pair: [student's, teacher's]`"
GIVE_PAIRS = "give the pairs of points, `pairs: [[student's, teacher's], ...]`, or leave the objective out"


def default_points(network: nn.Module, shape: Shape, whose: str, advice: str) -> tuple[str, ...]:
    """A network's feature points, in the order of the forward pass; at least one.

    Args:
        whose: names the network in the error.
        advice: what to do where it has none.

    Raises:
        UserError: it has none.
    """
    points = feature_points(network, shape)
    if not points:
        raise UserError(f"the {whose} has no feature points of its own; {advice}")
    return points


def match_points(student: nn.Module, teacher: nn.Module, shape: Shape) -> Pairs:
    """Pairs of the two networks' feature points, in the order of the forward pass.

    Equally many points are paired in order. Otherwise each point of the network that has fewer goes with a point of the
    other at the same height and width: the last such points, where the other has more of them.

    Raises:
        UserError: a network has no points, or a point has no counterpart of its size.
    """
    ours = default_points(student, shape, "student", GIVE_PAIRS)
    theirs = default_points(teacher, shape, "teacher", GIVE_PAIRS)
    if len(ours) == len(theirs):
        return tuple(zip(ours, theirs, strict=True))
    sizes = _sizes(student, ours, shape, "student"), _sizes(teacher, theirs, shape, "teacher")
    if len(ours) < len(theirs):
        return by_size(*sizes)
    return tuple((student_point, teacher_point) for teacher_point, student_point in by_size(*reversed(sizes)))


def by_size(fewer: dict[str, tuple[int, ...]], more: dict[str, tuple[int, ...]]) -> Pairs:
    """Pair each path of `fewer` with one of `more` that has the same size: with the last ones, in order.

    Raises:
        UserError: `more` has too few paths of a size.
    """
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for path, size in fewer.items():
        groups[size].append(path)
    pairs: list[tuple[str, str]] = []
    for size, paths in groups.items():
        counterparts = [path for path, other in more.items() if other == size]
        if len(counterparts) < len(paths):
            raise UserError(
                f"student and teacher cannot be matched by themselves: {', '.join(paths)} at {_text(size)} "
                f"{'has' if len(paths) == 1 else 'have'} {len(counterparts)} of "
                f"{', '.join(f'{path} at {_text(other)}' for path, other in more.items())} to go with; {GIVE_PAIRS}"
            )
        pairs += zip(paths, counterparts[-len(paths) :], strict=True)
    return tuple(pairs)


def embedding_point(network: nn.Module, shape: Shape, whose: str = "network", advice: str = GIVE_A_PAIR) -> str:
    """The penultimate embedding: the input of the last linear layer that runs, as a point for `Taps`.

    Args:
        whose: names the network in the error.
        advice: what to do where it has none.

    Raises:
        UserError: no linear layer runs, or the network is several in one.
    """
    if isinstance(network, EnsembleNetwork):
        raise UserError(f"the {whose} is an ensemble, whose members have an embedding each; {advice}")
    linear = {path for path, module in network.named_modules() if isinstance(module, nn.Linear)}
    last = next((path for path in reversed(run_order(network, shape)) if path in linear), None)
    if last is None:
        raise UserError(f"the {whose} has no linear layer, whose input would be its embedding; {advice}")
    return last + INPUT


def embedding_pair(
    pair: tuple[str, str] | None, student: nn.Module, teacher: nn.Module, shape: Shape
) -> tuple[str, str]:
    """The points in student and teacher that were asked for, or those of their embeddings."""
    return pair or (embedding_point(student, shape, "student"), embedding_point(teacher, shape, "teacher"))


def vectors(activation: torch.Tensor) -> torch.Tensor:
    """One vector per image, [N, ...] to [N, D], in single precision at least."""
    return activation.flatten(1).to(torch.promote_types(activation.dtype, torch.float32))


def _sizes(network: nn.Module, points: tuple[str, ...], shape: Shape, whose: str) -> dict[str, tuple[int, ...]]:
    """Height and width at each point; nothing for a point without space."""
    return {path: found[1:] for path, found in output_shapes(network, points, shape, whose).items()}


def _text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size)) or "no space"
