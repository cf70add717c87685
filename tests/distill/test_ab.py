"""Activation boundaries against a loop over neurons, and what the sum over layers weighs."""

from __future__ import annotations

import pytest
import torch

from nasdistill.distill.objectives.ab import Boundaries, boundary_distance
from nasdistill.errors import UserError
from tests.distill.features import bound, drawn, loss_of
from tests.distill.nets import TwoMaps

SHAPE = (1, 6, 6)


def looped(student: torch.Tensor, teacher: torch.Tensor, margin: float) -> float:
    """As the paper writes it, with rho = 1 for a teacher's neuron that is on."""
    total = 0.0
    for ours, theirs in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        rho = 1 if theirs > 0 else 0
        total += (rho * max(0, margin - ours) + (1 - rho) * max(0, margin + ours)) ** 2
    return total / len(student)


def test_neurons_by_hand() -> None:
    """On at 3 (beyond the margin), on at -1 (short by 3), off at 1 (over by 3), off at -2 (beyond), of margin 2."""
    student = torch.tensor([3.0, -1.0, 1.0, -2.0]).view(1, 4, 1, 1)
    teacher = torch.tensor([1.0, 5.0, 0.0, -7.0]).view(1, 4, 1, 1)
    assert float(boundary_distance(student, teacher, 2.0)) == 0 + 9 + 9 + 0


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_it_is_the_sum_over_an_images_neurons(margin: float) -> None:
    student, teacher = drawn(0, 3, 4, 2, 2), drawn(1, 3, 4, 2, 2)
    assert float(boundary_distance(student, teacher, margin)) == pytest.approx(looped(student, teacher, margin))


def test_gradients_are_those_of_finite_differences() -> None:
    student, teacher = drawn(0, 2, 3, 2, 2).requires_grad_(), drawn(1, 2, 3, 2, 2)
    assert torch.autograd.gradcheck(lambda given: boundary_distance(given, teacher, 1.0), student)


def test_each_layer_counts_half_of_the_next_and_the_student_is_connected() -> None:
    pairs = [["first.0", "second.1"], ["first.1", "first.1"], ["second.1", "second.1"]]
    term = bound({"name": "ab", "pairs": pairs, "margin": 0.7}, TwoMaps(), TwoMaps(channels=8), SHAPE)
    assert isinstance(term.loss, Boundaries)
    loss = term.loss.double()
    student = [drawn(0, 2, 4, 4, 4), drawn(1, 2, 4, 4, 4), drawn(2, 2, 4, 2, 2)]
    teacher = [drawn(3, 2, 8, 2, 2), drawn(4, 2, 8, 4, 4), drawn(3, 2, 8, 2, 2)]
    expected = 0.0
    for number, (ours, theirs, connector) in enumerate(zip(student, teacher, loss.connectors, strict=True)):
        if ours.shape[2:] != theirs.shape[2:]:
            ours = ours.reshape(2, 4, 2, 2, 2, 2).mean(dim=(3, 5))
        convolved = torch.einsum("dc,nchw->ndhw", connector[0].weight[:, :, 0, 0], ours).detach()  # type: ignore[index]
        variance, mean = torch.var_mean(convolved, dim=(0, 2, 3), correction=0, keepdim=True)
        expected += looped((convolved - mean) / (variance + 1e-5).sqrt(), theirs, 0.7) / 2 ** (2 - number)
    assert float(loss_of(term, student, teacher).detach()) == pytest.approx(expected, rel=1e-9)


def test_a_teachers_boundary_is_the_same_behind_its_rectifier() -> None:
    student, teacher = drawn(0, 3, 4, 2, 2), drawn(1, 3, 4, 2, 2)
    assert boundary_distance(student, teacher.relu(), 1.0) == boundary_distance(student, teacher, 1.0)


def test_vectors_are_no_maps() -> None:
    with pytest.raises(UserError, match=r"it compares maps .*, but the teacher's module 'classifier' puts out \[3\]"):
        bound({"name": "ab", "pairs": [["first", "classifier"]]}, TwoMaps(), TwoMaps(), SHAPE)
