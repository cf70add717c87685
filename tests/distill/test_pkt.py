"""Probabilistic knowledge transfer against loops over pairs of images, and what leaves it unchanged."""

from __future__ import annotations

import math

import pytest
import torch

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.pkt import neighbours
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from tests.distill.features import bound, drawn, loss_of, network, train_briefly

SHAPE = (3, 8, 8)


def loss_between(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    term = bound("pkt", network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE), SHAPE)
    assert (term.student_points, term.teacher_points) == (("classifier:input",), ("classifier:input",))
    return loss_of(term, [student], [teacher])


def looped_neighbours(points: list[list[float]]) -> list[list[float]]:
    def kernel(one: list[float], other: list[float]) -> float:
        cosine = sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))
        return (cosine + 1) / 2

    rows = [[kernel(one, other) for other in points] for one in points]
    return [[value / sum(row) for value in row] for row in rows]


def looped(student: torch.Tensor, teacher: torch.Tensor) -> float:
    """As the released code has it: its 1e-7 in the logarithm, and the mean over all pairs."""
    rows = zip(*(looped_neighbours(each.flatten(1).tolist()) for each in (teacher, student)), strict=True)
    pairs = [pair for theirs, ours in rows for pair in zip(theirs, ours, strict=True)]
    return sum(p * math.log((p + 1e-7) / (q + 1e-7)) for p, q in pairs) / len(pairs)


def test_three_images_by_hand() -> None:
    """Cosines 1, 0, -1 are kernels 1, 1/2, 0."""
    found = neighbours(torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[2 / 3, 1 / 3, 0], [1 / 4, 1 / 2, 1 / 4], [0, 1 / 3, 2 / 3]]))


def test_it_is_the_mean_divergence() -> None:
    student, teacher = drawn(0, 5, 3), drawn(1, 5, 2, 2)
    assert float(loss_between(student, teacher)) == pytest.approx(looped(student, teacher), rel=1e-10)


def test_a_rotation_and_each_embeddings_own_scale_change_nothing() -> None:
    teacher = drawn(0, 6, 4)
    rotation = torch.linalg.qr(drawn(1, 4, 4)).Q
    scales = torch.arange(1, 7, dtype=torch.float64).view(6, 1)
    assert float(loss_between(scales * teacher @ rotation, teacher)) == pytest.approx(0, abs=1e-14)


def test_gradients_are_those_of_finite_differences() -> None:
    student, teacher = drawn(0, 4, 3).requires_grad_(), drawn(1, 4, 3)
    assert torch.autograd.gradcheck(lambda given: loss_between(given, teacher), student)


@pytest.mark.parametrize(
    "student", [torch.zeros(4, 3), torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-2.0, 0.0], [3.0, 0.0]])]
)
def test_dead_and_opposite_embeddings_have_finite_gradients(student: torch.Tensor) -> None:
    """As those of a student whose rectifiers are dead."""
    student = student.clone().requires_grad_()
    loss = loss_between(student, drawn(1, 4, 3).float())
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e3


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = drawn(0, 4, 16).bfloat16(), drawn(1, 4, 16).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_between(student, teacher)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(looped(student.double(), teacher.double()), rel=1e-3)


def test_a_network_without_a_linear_layer_needs_a_pair() -> None:
    convolution = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8), torch.nn.Flatten())
    with pytest.raises(UserError, match=r"the teacher has no linear layer, .* `pair: "):
        bound("pkt", network("wrn-10-1", SHAPE), convolution, SHAPE)


def test_a_student_learns_its_teachers_neighbours() -> None:
    student, teacher = network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE, 1)
    task = Distillation(student, [Teacher(teacher)], [OBJECTIVES.parse("pkt")], SHAPE)
    first, last = train_briefly(task, SHAPE, "pkt")
    assert last < 0.5 * first
