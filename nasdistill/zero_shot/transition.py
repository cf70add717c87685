"""Transition curves: how sure two networks become as one of them pulls images across its decision boundaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

Network = Callable[[torch.Tensor], torch.Tensor]
"""From images, [N, C, H, W], to logits, [N, classes]; in evaluation mode."""


class Step(NamedTuple):
    """A step of several paths.

    Attributes:
        student, teacher: [N], the probability of each path's class before the step.
        images: [N, C, H, W], where the paths are after it.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    images: torch.Tensor


def walk(
    student: Network, teacher: Network, images: torch.Tensor, towards: torch.Tensor, steps: int, rate: float = 1.0
) -> Iterator[Step]:
    """Change each image until the student takes it for a given class, and watch both networks.

    x_{k+1} = x_k - rate * grad_x CE(student(x_k), j), no sign, no clipping, no projection. The probabilities come from
    the very pass that the gradient is taken of; nothing follows the last probabilities, so there the images stay. No
    gradient of a weight is computed.

    Source: Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), algorithm 2.

    Args:
        images: [N, C, H, W], normalised for the student.
        towards: int64, [N], the class j of each path.
    """
    places = towards[:, None]
    for left in reversed(range(steps)):
        images = images.detach().requires_grad_(left > 0)
        with torch.enable_grad():
            likelihood = student(images).log_softmax(1).gather(1, places)
            following = images
            if left:
                (gradient,) = torch.autograd.grad(likelihood.sum(), images)  # minus that of the cross-entropies
                following = images.detach().add(gradient, alpha=rate)
        with torch.no_grad():
            theirs = teacher(images).softmax(1).gather(1, places)
        yield Step(likelihood.detach().exp().squeeze(1), theirs.squeeze(1), following)
