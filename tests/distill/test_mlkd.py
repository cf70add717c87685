"""Multi-level logit distillation against plain loops over images and classes."""

from __future__ import annotations

import pytest
import torch
from scipy.special import rel_entr, softmax

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.objectives.mlkd import relation_distances
from nasdistill.errors import SpecError
from tests.distill.losses import DOUBLE, logits, loss_of


def by_loop(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> tuple[float, float, float]:
    """The three levels at one temperature, with a loop for every product."""
    ours, theirs = (softmax(value.numpy() / temperature, 1) for value in (student, teacher))
    images, classes = ours.shape
    instance = temperature**2 * rel_entr(theirs, ours).sum(1).mean()
    batch = sum((ours[i] @ ours[j] - theirs[i] @ theirs[j]) ** 2 for i in range(images) for j in range(images))
    category = sum(
        (ours[:, c] @ ours[:, d] - theirs[:, c] @ theirs[:, d]) ** 2 for c in range(classes) for d in range(classes)
    )
    return float(instance), float(batch / images), float(category / classes)


def test_two_images_of_two_classes_by_hand() -> None:
    """The student answers both images alike, (1/2, 1/2); the teacher tells them apart, (1, 0) and (0, 1)."""
    student, teacher = torch.full((2, 2), 0.5, dtype=DOUBLE), torch.eye(2, dtype=DOUBLE)
    images, classes = relation_distances(student, teacher)
    # G: 1/2 everywhere against the unit matrix, and so is M.
    assert images.tolist() == [0.5, 0.5]
    assert classes.tolist() == [0.5, 0.5]


def test_each_level_agrees_with_its_loops() -> None:
    student, teacher = logits(0), logits(1)
    levels = [by_loop(student, teacher, temperature) for temperature in (2, 3, 4, 5, 6)]
    whole = 0.0
    for number, weights in enumerate(((1, 0, 0), (0, 2, 0), (0, 0, 3))):
        spec = {"name": "mlkd", **dict(zip(("instance_weight", "batch_weight", "class_weight"), weights, strict=True))}
        expected = weights[number] * sum(level[number] for level in levels)
        assert loss_of(spec, student, teacher).item() == pytest.approx(expected)
        whole += expected / weights[number]
    assert loss_of("mlkd", student, teacher).item() == pytest.approx(whole)


def test_one_temperature_and_one_level_are_kd() -> None:
    student, teacher = logits(0), logits(1)
    spec = {"name": "mlkd", "temperatures": [4], "batch_weight": 0, "class_weight": 0}
    torch.testing.assert_close(loss_of(spec, student, teacher), loss_of("kd", student, teacher))


def test_classes_that_are_mistaken_for_each_other_alike_leave_the_relations_between_images() -> None:
    """Two classes that change places in every answer change no relation between images, but those between classes."""
    teacher = logits(1).softmax(1)
    student = teacher[:, [1, 0, *range(2, 10)]]
    images, classes = relation_distances(student, teacher)
    torch.testing.assert_close(images, torch.zeros(6, dtype=DOUBLE))
    assert float(classes.sum()) > 1e-3


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = logits(0).float(), logits(1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = relation_distances(student.softmax(1), teacher.softmax(1))
    for ours, expected in zip(found, relation_distances(student.softmax(1), teacher.softmax(1)), strict=True):
        assert torch.equal(ours, expected)


def test_the_published_weights_leave_a_tenth_to_the_labels() -> None:
    label_term, objective = with_label_term([OBJECTIVES.parse("mlkd")])
    assert (label_term.weight, objective.weight) == (pytest.approx(0.1), 0.9)


def test_no_temperature_is_refused() -> None:
    with pytest.raises(SpecError, match="at least 1 must be given"):
        OBJECTIVES.parse({"name": "mlkd", "temperatures": []})
