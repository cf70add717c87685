"""Flow matrices against numpy, and the networks to which they do not apply."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.fsp import flow
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from tests.distill.features import bound, drawn, loss_of, network, train_briefly
from tests.distill.nets import TwoMaps

SHAPE = (3, 8, 8)


def numpy_flow(lower: torch.Tensor, upper: torch.Tensor) -> np.ndarray:  # type: ignore[type-arg]
    """Of maps of equal size, and of a lower one that is twice as high and wide."""
    first, second = lower.detach().numpy(), upper.detach().numpy()
    if first.shape[2] > second.shape[2]:
        count, channels, height, width = first.shape
        first = first.reshape(count, channels, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
    return np.einsum("nihw,njhw->nij", first, second) / second[0, 0].size


def test_a_flow_by_hand() -> None:
    """Channels (1, 2, 3, 4) and (1, 0, 0, 1): the mean product is 5/4; with the map (2, 2, 2, 2) it is 5."""
    lower = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    upper = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]]]])
    assert flow(lower, upper).tolist() == [[[1.25, 5.0]]]


def test_it_is_the_mean_over_entries_summed_over_neighbouring_layers() -> None:
    """The teacher's maps have other sizes than the student's, which the matrices have no more."""
    student = [drawn(0, 4, 3, 4, 4), drawn(1, 4, 5, 4, 4), drawn(2, 4, 2, 2, 2)]
    teacher = [drawn(3, 4, 3, 8, 8), drawn(4, 4, 5, 4, 4), drawn(5, 4, 2, 4, 4)]
    term = bound("fsp", network("wrn-10-1", SHAPE), network("wrn-10-1", SHAPE), SHAPE)
    assert term.student_points == term.teacher_points == ("groups.0", "groups.1", "groups.2")
    expected = sum(
        ((numpy_flow(*student[at : at + 2]) - numpy_flow(*teacher[at : at + 2])) ** 2).mean() for at in range(2)
    )
    assert float(loss_of(term, student, teacher)) == pytest.approx(expected, rel=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    term = bound("fsp", TwoMaps(), TwoMaps(), (1, 6, 6))
    student = [drawn(seed, 2, 2, size, size).requires_grad_() for seed, size in ((0, 4), (1, 2))]
    teacher = [drawn(2, 2, 2, 4, 4), drawn(3, 2, 2, 2, 2)]
    assert torch.autograd.gradcheck(lambda *given: loss_of(term, list(given), teacher), student)


def test_half_precision_is_computed_in_single() -> None:
    lower, upper = drawn(0, 2, 3, 4, 4).bfloat16(), drawn(1, 2, 3, 2, 2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = flow(lower, upper)
    torch.testing.assert_close(found.double(), flow(lower.double(), upper.double()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pairs": [["first", "first"]]}, "only one pair of layers (first, first); give two at least"),
        (
            {"pairs": [["first", "first"], ["classifier", "second"]]},
            "maps of channels, height and width, but the student's module 'classifier' puts out [3] per image",
        ),
        ({}, "equally many channels in both networks, but the student's first has 4 and the teacher's first 8"),
    ],
)
def test_layers_to_which_it_does_not_apply_are_named(options: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError) as error:
        bound({"name": "fsp", **options}, TwoMaps(), TwoMaps(channels=8), (1, 6, 6))
    assert problem in str(error.value)


def test_a_student_learns_its_teachers_flow() -> None:
    student, teacher = network("wrn-10-1", SHAPE), network("wrn-16-1", SHAPE, 1)
    task = Distillation(student, [Teacher(teacher)], [OBJECTIVES.parse("fsp")], SHAPE)
    first, last = train_briefly(task, SHAPE, "fsp")
    assert last < 0.5 * first
