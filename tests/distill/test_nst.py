"""Neuron selectivity transfer against a loop over channels, and what leaves it unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.nst import selectivity_distance
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from tests.distill.features import bound, drawn, loss_of, network, train_briefly

SHAPE = (3, 8, 8)


def looped(student: torch.Tensor, teacher: torch.Tensor) -> float:
    """Of maps of equal size: the norm of the difference of mean outer products, which is the same discrepancy."""
    total = 0.0
    for ours, theirs in zip(student.numpy(), teacher.numpy(), strict=True):
        means = []
        for maps in (ours, theirs):
            units = [channel.ravel() / np.sqrt((channel**2).sum()) for channel in maps]
            means.append(sum(np.outer(unit, unit) for unit in units) / len(units))
        total += ((means[0] - means[1]) ** 2).sum()
    return float(total / len(student))


def test_two_channels_by_hand() -> None:
    """One fires left, one right, against one that fires left: (1 + 0 + 0 + 1)/4 + 1 - 2 * (1 + 0)/2 = 1/2."""
    student = torch.tensor([[[[3.0, 0.0]], [[0.0, 5.0]]]])
    teacher = torch.tensor([[[[7.0, 0.0]]]])
    assert float(selectivity_distance(student, teacher)) == pytest.approx(0.5)


def test_it_is_the_discrepancy_of_mean_outer_products_summed_over_pairs() -> None:
    student = [drawn(0, 3, 4, 4, 3), drawn(1, 3, 2, 2, 2), drawn(2, 3, 5, 2, 2)]
    teacher = [drawn(3, 3, 7, 4, 3), drawn(4, 3, 2, 2, 2), drawn(5, 3, 6, 2, 2)]
    term = bound("nst", network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE), SHAPE)
    assert term.student_points == term.teacher_points == ("groups.0", "groups.1", "groups.2")
    expected = sum(looped(*pair) for pair in zip(student, teacher, strict=True))
    assert float(loss_of(term, student, teacher)) == pytest.approx(expected, rel=1e-10)


def test_the_larger_map_is_averaged_to_the_smaller() -> None:
    large, small = drawn(0, 2, 3, 4, 4), drawn(1, 2, 5, 2, 2)
    averaged = large.reshape(2, 3, 2, 2, 2, 2).mean(dim=(3, 5))
    for one, other in ((large, small), (small, large)):
        assert float(selectivity_distance(one, other)) == pytest.approx(looped(averaged, small), rel=1e-10)


def test_scales_and_repeated_channels_change_nothing() -> None:
    teacher = drawn(0, 2, 3, 4, 4)
    scales = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64).view(3, 1, 1)
    assert float(selectivity_distance(torch.cat([scales * teacher] * 2, dim=1), teacher)) == pytest.approx(0, abs=1e-14)


def test_gradients_are_those_of_finite_differences_and_dead_channels_have_none() -> None:
    student, teacher = drawn(0, 2, 3, 2, 2).requires_grad_(), drawn(1, 2, 2, 2, 2)
    assert torch.autograd.gradcheck(lambda given: selectivity_distance(given, teacher), student)
    dead = torch.zeros(2, 3, 2, 2, requires_grad=True)
    selectivity_distance(dead, teacher.float()).backward()
    assert dead.grad is not None
    assert not dead.grad.any()


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = drawn(0, 2, 4, 4, 4).bfloat16(), drawn(1, 2, 4, 4, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = selectivity_distance(student, teacher)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(looped(student.double(), teacher.double()), rel=1e-4)


def test_vectors_have_no_places() -> None:
    with pytest.raises(UserError, match=r"it compares maps of channels, height and width, but the teacher's module"):
        bound(
            {"name": "nst", "pairs": [["groups.2", "classifier"]]},
            *(network("wrn-10-1", SHAPE), network("wrn-10-1", SHAPE), SHAPE),
        )


def test_a_students_channels_learn_where_to_fire() -> None:
    student, teacher = network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE, 1)
    task = Distillation(student, [Teacher(teacher)], [OBJECTIVES.parse("nst")], SHAPE)
    first, last = train_briefly(task, SHAPE, "nst")
    assert last < 0.7 * first
