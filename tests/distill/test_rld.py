"""Refined logit distillation against a plain loop over images, and what it takes from a teacher that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import nn

from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.distill.objectives.rld import confidence_divergence, masked_divergence
from nasdistill.training.batches import Batch
from tests.distill.losses import DOUBLE, logits, loss_of

LABELS = torch.tensor([0, 9, 3, 3, 1, 5])


def by_loop(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> tuple[list[float], list[float]]:
    """Confidence and correlation of each image: probabilities, and a softmax over the classes that are left alone."""
    confidences, correlations = [], []
    for said, taught, label in zip(student.numpy(), teacher.numpy(), LABELS.tolist(), strict=True):
        q, p = softmax(said / temperature)[label], softmax(taught / temperature).max()
        confidences.append(float(rel_entr([p, 1 - p], [q, 1 - q]).sum()))
        left = [c for c in range(len(taught)) if taught[c] < taught[label]]
        pair = [softmax(values[left] / temperature) for values in (taught, said)] if left else [np.ones(1)] * 2
        correlations.append(float(rel_entr(*pair).sum()))
    return confidences, correlations


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_agrees_with_a_loop_over_images(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    expected = by_loop(student, teacher, temperature)
    for part, reference in zip((confidence_divergence, masked_divergence), expected, strict=True):
        np.testing.assert_allclose(part(student, teacher, LABELS, temperature).numpy(), reference, atol=1e-15)
    parts = by_loop(student, teacher, 2)[0], expected[1]
    spec = {"name": "rld", "alpha": 0.5, "beta": 6, "alpha_temperature": 2, "temperature": temperature}
    weighed = 0.5 * 4 * np.mean(parts[0]) + 6 * temperature**2 * np.mean(parts[1])
    assert loss_of(spec, student, teacher, LABELS).item() == pytest.approx(weighed)


def test_of_a_teacher_that_is_right_it_is_dkd() -> None:
    student, teacher = logits(0), logits(1)
    teacher[torch.arange(6), LABELS] = teacher.amax(1) + 1
    spec = {"name": "rld", "alpha_temperature": 4}
    expected = loss_of("dkd", student, teacher, LABELS)
    torch.testing.assert_close(loss_of(spec, student, teacher, LABELS), expected)


def test_a_teachers_mistake_teaches_confidence_in_the_label_and_nothing_of_what_it_prefers() -> None:
    """Classes that the teacher ranks above the label get no gradient from the correlation, and may lie anywhere."""
    teacher = torch.tensor([[5.0, 4.0, 3.0, 1.0, 0.0]], dtype=DOUBLE)
    label = torch.tensor([2])
    student = torch.tensor([[0.0, 7.0, 3.0, 1.0, 0.0]], dtype=DOUBLE, requires_grad=True)
    correlation = masked_divergence(student, teacher, label)
    (gradient,) = torch.autograd.grad(correlation.sum(), student)
    assert correlation.item() == pytest.approx(0)
    assert gradient[0, :3].tolist() == [0, 0, 0]
    confidence = confidence_divergence(student, teacher, label)
    (gradient,) = torch.autograd.grad(confidence.sum(), student)
    assert gradient[0, 2] < 0 < gradient[0, 0]


def test_where_the_label_is_the_teachers_last_guess_nothing_is_left_to_correlate() -> None:
    """In single precision too, forward and back."""
    student = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], requires_grad=True)
    teacher = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    found = masked_divergence(student, teacher, torch.tensor([2, 1]))
    (gradient,) = torch.autograd.grad(found.sum(), student)
    assert found.tolist() == [0, 0]
    assert torch.equal(gradient, torch.zeros(2, 3))


def test_both_parts_are_reported_and_add_up() -> None:
    student, teacher = logits(0), logits(1)
    objective = OBJECTIVES.parse("rld")
    batch = Batch(torch.empty(0), LABELS, torch.arange(6))
    told = objective.report(Outputs(student, {}), Outputs(teacher, {}), batch)
    expected = float(told["confidence"]) + 8 * 16 * float(told["correlation"])
    assert loss_of("rld", student, teacher, LABELS).item() == pytest.approx(expected)
    assert objective.bind(nn.Identity(), nn.Identity(), (1, 2, 2)).student_points == ()
