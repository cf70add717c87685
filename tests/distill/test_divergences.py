"""Divergences against scipy and closed forms, and what makes them divergences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy, wasserstein_distance
from torch import nn

from nasdistill.distill.divergences import DIVERGENCES
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.training.batches import Batch
from tests.distill.losses import DOUBLE, logits

CLASSES = 10
LINE = {"name": "wasserstein", "metric": "line"}
SPECS: list[Any] = ["kl", "jensen-shannon", {"name": "jensen-shannon", "temperature": 3}, "l1", "wasserstein", LINE]
SYMMETRIC = SPECS[1:]


def between(spec: Any, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The mean over images of the sum over classes."""
    options = {"name": spec} if isinstance(spec, str) else spec
    distance: torch.Tensor = DIVERGENCES.parse({**options, "reduction": "batchmean"}).between(student, teacher)
    return distance


def by_scipy(spec: Any, student: np.ndarray, teacher: np.ndarray) -> float:
    """The same for the logits of one image."""
    ours, theirs = softmax(student), softmax(teacher)
    if spec == "kl":
        return float(entropy(theirs, ours))
    if spec == "jensen-shannon":
        return float(jensenshannon(ours, theirs) ** 2)
    if isinstance(spec, dict) and "temperature" in spec:
        temperature = spec["temperature"]
        return float(jensenshannon(softmax(student / temperature), softmax(teacher / temperature)) ** 2)
    if spec == "l1":
        return float(np.linalg.norm(student - teacher, 1))
    if spec == LINE:
        places = np.arange(CLASSES)
        return float(wasserstein_distance(places, places, ours, theirs))
    # Any two classes are 1 apart: what has to be moved is what one has more of than the other.
    return float(np.maximum(ours - theirs, 0).sum())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_they_agree_with_scipy(spec: Any) -> None:
    student, teacher = logits(0), logits(1)
    expected = np.mean([by_scipy(spec, *pair) for pair in zip(student.numpy(), teacher.numpy(), strict=True)])
    assert between(spec, student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_mean_over_classes_too_is_a_fraction_and_the_default(spec: Any) -> None:
    student, teacher = logits(0), logits(1)
    over_both = DIVERGENCES.parse(spec).between(student, teacher)
    torch.testing.assert_close(CLASSES * over_both, between(spec, student, teacher))


@pytest.mark.filterwarnings("ignore:reduction")
def test_torchs_own_reductions_have_these_names() -> None:
    student, teacher = logits(0), logits(1)
    ours, theirs = student.log_softmax(1), teacher.softmax(1)
    for reduction in ("mean", "batchmean"):
        found = DIVERGENCES.parse({"name": "kl", "reduction": reduction}).between(student, teacher)
        torch.testing.assert_close(found, nn.KLDivLoss(reduction=reduction)(ours, theirs))
    torch.testing.assert_close(DIVERGENCES.parse("l1").between(student, teacher), nn.L1Loss()(student, teacher))


def test_two_classes_in_closed_form() -> None:
    """p = (3/4, 1/4) and q = (1/4, 3/4)."""
    student = torch.tensor([[math.log(3), 0.0]], dtype=DOUBLE)
    teacher = torch.tensor([[0.0, math.log(3)]], dtype=DOUBLE)
    half = {
        "kl": math.log(3) / 2,
        "jensen-shannon": 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2),
        "l1": 2 * math.log(3),
        "wasserstein": 1 / 2,
    }
    for name, expected in half.items():
        assert between(name, student, teacher).item() == pytest.approx(expected)


def test_sure_and_of_opposite_mind() -> None:
    """Where KL grows without bound, the others know an end, and only the line knows how far the classes are apart."""
    for size in (50.0, 5000.0):
        student, teacher = torch.zeros(1, 5), torch.zeros(1, 5)
        student[0, 0] = teacher[0, 3] = size
        assert between("kl", student, teacher).item() == pytest.approx(size)
        assert between("jensen-shannon", student, teacher).item() == pytest.approx(math.log(2))
        assert between("wasserstein", student, teacher).item() == pytest.approx(1)
        assert between(LINE, student, teacher).item() == pytest.approx(3)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_they_are_0_where_both_agree_and_only_there(spec: Any) -> None:
    teacher = logits(1)
    assert between(spec, teacher, teacher).item() == pytest.approx(0, abs=1e-15)
    assert between(spec, logits(0), teacher).item() > 0.01


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "l1"], ids=str)
def test_beliefs_count_and_not_what_is_added_to_all_logits(spec: Any) -> None:
    teacher = logits(1)
    assert between(spec, teacher + 7, teacher).item() == pytest.approx(0, abs=1e-12)
    assert between("l1", teacher + 7, teacher).item() == pytest.approx(7 * CLASSES)


@pytest.mark.parametrize("spec", SYMMETRIC, ids=str)
def test_symmetry(spec: Any) -> None:
    student, teacher = logits(0), logits(1)
    torch.testing.assert_close(between(spec, student, teacher), between(spec, teacher, student))


def test_kl_takes_the_teachers_beliefs_for_true() -> None:
    student, teacher = logits(0), logits(1)
    assert between("kl", student, teacher).item() != pytest.approx(between("kl", teacher, student).item(), rel=0.01)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_gradients_reach_both_networks(spec: Any) -> None:
    student, teacher = logits(0, images=3, classes=4).requires_grad_(), logits(1, images=3, classes=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda ours, theirs: between(spec, ours, theirs), (student, teacher))
    gradients = torch.autograd.grad(between(spec, student, teacher), (student, teacher))
    assert all(gradient.abs().sum(dim=1).min() > 1e-3 for gradient in gradients)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_gradients_are_finite_where_logits_are_large(spec: Any) -> None:
    student = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    teacher = torch.tensor([[-1e4, 0.0, 1e4]], requires_grad=True)
    gradients = torch.autograd.grad(between(spec, student, teacher), (student, teacher))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_as_an_objective_of_a_distillation(spec: Any) -> None:
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
    objective = OBJECTIVES.parse({"name": "divergence", "divergence": spec, "weight": 3})
    task = Distillation(student, [Teacher(teacher)], [objective], (1, 2, 2))
    images = torch.randn(5, 1, 2, 2)
    named = task(Batch(images, torch.zeros(5, dtype=torch.int64), torch.arange(5)))
    expected = 3 * DIVERGENCES.parse(spec).between(student(images), teacher(images))
    torch.testing.assert_close(named, {"divergence": expected})
