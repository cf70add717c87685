"""Objectives of born-again networks: `ban`, `ban+label`, and the controls `cwtm` and `dkpp`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import chisquare
from torch.nn import functional

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.controls import confidence_weights, permuted_predictions
from nasdistill.distill.objectives.cross_entropy import with_label_term
from tests.distill.losses import DOUBLE, logits, loss_of

STUDENT, TEACHER = logits(1), logits(2)
LABELS = torch.tensor([3, 0, 9, 1, 1, 4])


def cross_entropies(student: torch.Tensor, targets: np.ndarray) -> np.ndarray:
    """-sum_c target_c * log p_c of each image."""
    found: np.ndarray = -(targets * log_softmax(student.numpy(), axis=1)).sum(axis=1)
    return found


def one_hot(labels: torch.Tensor) -> np.ndarray:
    return np.eye(10)[labels.numpy()]


def test_ban_is_the_cross_entropy_with_what_the_teacher_says() -> None:
    expected = cross_entropies(STUDENT, softmax(TEACHER.numpy(), axis=1)).mean()
    assert loss_of("ban", STUDENT, TEACHER, LABELS).item() == pytest.approx(expected, rel=1e-12)


def test_ban_has_the_gradients_of_kd_at_temperature_1() -> None:
    gradients = []
    for spec in ("ban", {"name": "kd", "temperature": 1}):
        student = STUDENT.clone().requires_grad_()
        gradients += torch.autograd.grad(loss_of(spec, student, TEACHER, LABELS), student)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("ground_truth", [0.0, 0.3, 1.0])
def test_ban_with_labels_is_the_sum_of_both(ground_truth: float) -> None:
    taught = cross_entropies(STUDENT, softmax(TEACHER.numpy(), axis=1)).mean()
    labelled = cross_entropies(STUDENT, one_hot(LABELS)).mean()
    found = loss_of({"name": "ban+label", "ground_truth": ground_truth}, STUDENT, TEACHER, LABELS)
    assert found.item() == pytest.approx(taught + ground_truth * labelled, rel=1e-12)


@pytest.mark.parametrize("name", ["ban", "ban+label", "cwtm", "dkpp"])
def test_they_stand_in_the_place_of_the_label_term(name: str) -> None:
    objective = OBJECTIVES.parse(name)
    assert with_label_term([objective]) == [objective]


def test_of_a_weight_under_1_the_rest_is_the_ground_truths() -> None:
    ban = OBJECTIVES.parse({"name": "ban", "weight": 0.7})
    label, taught = with_label_term([ban])
    assert (label.registered_name, taught) == ("cross-entropy", ban)
    assert label.weight == pytest.approx(0.3)


def test_the_weights_of_a_batch_add_up_to_1() -> None:
    """Released code divides by the number of images once more."""
    weights = confidence_weights(TEACHER)
    highest = softmax(TEACHER.numpy(), axis=1).max(axis=1)
    np.testing.assert_allclose(weights.numpy(), highest / highest.sum(), rtol=1e-12)
    assert weights.sum().item() == pytest.approx(1, rel=1e-12)


def test_cwtm_weighs_each_image_by_its_teachers_highest_probability() -> None:
    highest = softmax(TEACHER.numpy(), axis=1).max(axis=1)
    losses = cross_entropies(STUDENT, one_hot(LABELS))
    expected = sum(weight * loss for weight, loss in zip(highest, losses, strict=True)) / highest.sum()
    assert loss_of("cwtm", STUDENT, TEACHER, LABELS).item() == pytest.approx(expected, rel=1e-12)
    mixed = 0.3 * one_hot(LABELS) + 0.7 * one_hot(LABELS.roll(1))
    losses = cross_entropies(STUDENT, mixed)
    expected = sum(weight * loss for weight, loss in zip(highest, losses, strict=True)) / highest.sum()
    assert loss_of("cwtm", STUDENT, TEACHER, torch.as_tensor(mixed)).item() == pytest.approx(expected, rel=1e-12)


def test_a_teacher_that_is_equally_sure_of_all_leaves_plain_cross_entropy() -> None:
    equally_sure = TEACHER[:1].expand(6, 10)
    expected = functional.cross_entropy(STUDENT, LABELS)
    torch.testing.assert_close(loss_of("cwtm", STUDENT, equally_sure, LABELS), expected)


def test_processes_that_share_a_batch_average_to_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two knows the sum of all confidences, and their gradients, so losses too, are averaged."""
    whole = loss_of("cwtm", STUDENT, TEACHER, LABELS)
    total = TEACHER.softmax(dim=1).amax(dim=1).sum()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.copy_(total))
    shares = [loss_of("cwtm", STUDENT[at::2], TEACHER[at::2], LABELS[at::2]) for at in (0, 1)]
    torch.testing.assert_close(sum(shares) / 2, whole)


@pytest.mark.parametrize("seed", range(5))
def test_shuffling_keeps_the_likeliest_class_and_each_images_own_probabilities(seed: int) -> None:
    """Released code permutes rows, which hands an image the probabilities of another."""
    torch.manual_seed(seed)
    before = logits(seed, images=50).softmax(dim=1)
    after = permuted_predictions(before)
    assert torch.equal(after.argmax(dim=1), before.argmax(dim=1))
    assert torch.equal(after.amax(dim=1), before.amax(dim=1))
    assert torch.equal(after.sort(dim=1).values, before.sort(dim=1).values)
    moved = (after != before).any(dim=1).float().mean()
    assert moved == 1  # of 9! orders hardly ever the same one


def test_every_order_of_the_others_is_equally_likely() -> None:
    """Four classes, the likeliest in the midst: 6 orders of the other three, 6,000 draws."""
    torch.manual_seed(0)
    drawn = permuted_predictions(torch.tensor([[0.1, 0.6, 0.2, 0.1 + 1e-3]], dtype=DOUBLE).expand(6000, 4))
    assert (drawn[:, 1] == 0.6).all()
    orders = Counter(map(tuple, drawn.tolist()))
    assert len(orders) == 6
    assert chisquare(list(orders.values())).pvalue > 0.001


def test_two_classes_leave_nothing_to_shuffle() -> None:
    before = logits(0, classes=2).softmax(dim=1)
    assert torch.equal(permuted_predictions(before), before)


def test_dkpp_is_the_cross_entropy_with_shuffled_probabilities() -> None:
    torch.manual_seed(5)
    found = loss_of("dkpp", STUDENT, TEACHER, LABELS)
    torch.manual_seed(5)
    targets = permuted_predictions(TEACHER.softmax(dim=1)).numpy()
    assert found.item() == pytest.approx(cross_entropies(STUDENT, targets).mean(), rel=1e-12)
    assert found.item() != pytest.approx(loss_of("ban", STUDENT, TEACHER, LABELS).item(), rel=1e-3)


@pytest.mark.parametrize("name", ["ban", "ban+label", "cwtm", "dkpp"])
def test_gradients_are_those_of_a_cross_entropy(name: str) -> None:
    student = STUDENT.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(name, student, TEACHER, LABELS), student)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    # of a softmax's logits the gradient of every image adds up to nothing
    torch.testing.assert_close(gradient.sum(dim=1), torch.zeros(6, dtype=DOUBLE), atol=1e-12, rtol=0)
