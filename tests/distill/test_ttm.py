"""Transformed teacher matching against its closed form and a plain loop over images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.ttm import power_sum
from tests.distill.losses import DOUBLE, logits, loss_of


def by_loop(student: torch.Tensor, teacher: torch.Tensor, gamma: float) -> tuple[list[float], list[float]]:
    """D and U of each image as the paper words them: probabilities first, then their powers, divided by the sum."""
    divergences, sums = [], []
    for said, taught in zip(student.numpy(), teacher.numpy(), strict=True):
        powers = softmax(taught) ** gamma
        sums.append(float(powers.sum()))
        divergences.append(float(rel_entr(powers / powers.sum(), softmax(said)).sum()))
    return divergences, sums


def test_two_classes_in_closed_form() -> None:
    """The square roots of (16/17, 1/17) are as 4 to 1, and sum to 5/sqrt(17); the student says (1/2, 1/2)."""
    teacher, student = torch.tensor([[16.0, 1.0]], dtype=DOUBLE).log(), torch.zeros(1, 2, dtype=DOUBLE)
    expected = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert loss_of({"name": "ttm", "gamma": 0.5}, student, teacher).item() == pytest.approx(expected)
    weighted = 5 / math.sqrt(17) * expected
    assert loss_of({"name": "wttm", "gamma": 0.5}, student, teacher).item() == pytest.approx(weighted)


@pytest.mark.parametrize("gamma", [0.1, 0.2, 1.0, 2.0])
def test_it_agrees_with_a_loop_over_images(gamma: float) -> None:
    student, teacher = logits(0), logits(1)
    divergences, sums = by_loop(student, teacher, gamma)
    np.testing.assert_allclose(power_sum(teacher, gamma).numpy(), sums)
    plain = loss_of({"name": "ttm", "gamma": gamma}, student, teacher)
    assert plain.item() == pytest.approx(np.mean(divergences))
    weighted = loss_of({"name": "wttm", "gamma": gamma}, student, teacher)
    assert weighted.item() == pytest.approx(np.mean(np.multiply(sums, divergences)))


def test_the_weight_lies_between_that_of_a_sure_teacher_and_that_of_one_that_knows_nothing() -> None:
    teacher = torch.tensor([[200.0, 0, 0, 0], [0, 0, 0, 0]], dtype=DOUBLE)
    np.testing.assert_allclose(power_sum(teacher, 0.25).numpy(), [1, 4**0.75])


def test_without_a_power_it_is_kd_without_a_temperature() -> None:
    student, teacher = logits(0), logits(1)
    plain = loss_of({"name": "kd", "temperature": 1}, student, teacher)
    for name in ("ttm", "wttm"):
        torch.testing.assert_close(loss_of({"name": name, "gamma": 1}, student, teacher), plain)


def test_only_the_teacher_is_softened() -> None:
    """So that a student with its teacher's very logits is too sure, and one with a tenth of them agrees."""
    teacher = logits(1)
    assert loss_of("ttm", 0.1 * teacher, teacher).item() == pytest.approx(0)
    assert loss_of("ttm", teacher, teacher).item() > 0.1


def test_the_published_weights() -> None:
    """Released commands: gamma 0.1 and beta 45 for ttm; 0.2 and 4 for wttm beside crd; 1 for the labels."""
    published = {name: OBJECTIVES.parse(name) for name in ("ttm", "wttm")}
    assert {name: (each.gamma, each.weight) for name, each in published.items()} == {  # type: ignore[attr-defined]
        "ttm": (0.1, 45.0),
        "wttm": (0.2, 4.0),
    }
