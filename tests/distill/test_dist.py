"""DIST against Pearson's correlations by scipy, and what it is blind to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import pearsonr

from nasdistill.distill.objectives.dist import correlation_distance
from tests.distill.losses import DOUBLE, logits, loss_of


def test_correlations_in_closed_form() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], dtype=DOUBLE)
    others = torch.tensor([[5.0, 7.0, 9.0], [3.0, 2.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 2.0]], dtype=DOUBLE)
    expected = torch.tensor([0.0, 2.0, 1.0, 1 - 3**0.5 / 2], dtype=DOUBLE)
    torch.testing.assert_close(correlation_distance(rows, others), expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_agrees_with_scipy(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    ours, theirs = (softmax(value.numpy() / temperature, 1) for value in (student, teacher))
    inter = np.mean([1 - pearsonr(*rows)[0] for rows in zip(ours, theirs, strict=True)])
    intra = np.mean([1 - pearsonr(*columns)[0] for columns in zip(ours.T, theirs.T, strict=True)])
    for beta, gamma in ((1, 0), (0, 1), (2, 3)):
        spec = {"name": "dist", "beta": beta, "gamma": gamma, "temperature": temperature}
        expected = temperature**2 * (beta * inter + gamma * intra)
        assert loss_of(spec, student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_a_student_less_sure_than_its_teacher_keeps_the_relations_between_classes() -> None:
    """Probabilities halfway to uniform are a line of the teacher's: correlation 1, where a divergence is not 0."""
    teacher = logits(1)
    student = (0.5 * teacher.softmax(1) + 0.05).log()
    assert loss_of("dist", student, teacher).item() == pytest.approx(0, abs=1e-6)
    assert loss_of("kd", student, teacher).item() > 0.1


def test_relations_between_images_need_more_than_one_and_have_finite_gradients_without() -> None:
    """One image has no relation to others: intra is 1, a constant, and inter alone teaches."""
    student, teacher = logits(0, images=1).requires_grad_(), logits(1, images=1)
    both = loss_of("dist", student, teacher)
    inter = loss_of({"name": "dist", "gamma": 0}, student, teacher)
    assert (both - inter).item() == pytest.approx(1)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (both, inter)]
    torch.testing.assert_close(*gradients)
