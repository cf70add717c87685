"""Decoupled knowledge distillation against its closed forms and a plain loop over images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import nn

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.objectives.dkd import decoupled_divergence
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.training.batches import Batch
from tests.distill.losses import DOUBLE, logits, loss_of
from tests.distill.nets import TwoMaps

LABELS = torch.tensor([0, 9, 3, 3, 1, 5])


def by_loop(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> tuple[list[float], list[float]]:
    """TCKD and NCKD of each image as the paper words them: probabilities first, divided by 1 - p afterwards."""
    target_class, other_classes = [], []
    for said, taught, label in zip(student.numpy(), teacher.numpy(), LABELS.tolist(), strict=True):
        ours, theirs = softmax(said / temperature), softmax(taught / temperature)
        pairs = [np.array([p[label], 1 - p[label]]) for p in (theirs, ours)]
        rests = [np.delete(p, label) / (1 - p[label]) for p in (theirs, ours)]
        target_class.append(float(rel_entr(*pairs).sum()))
        other_classes.append(float(rel_entr(*rests).sum()))
    return target_class, other_classes


def test_three_classes_in_closed_form() -> None:
    # Teacher (1/2, 3/8, 1/8), student (1/3, 1/3, 1/3), label 0: the rest is (3/4, 1/4) against (1/2, 1/2).
    teacher = torch.tensor([[4.0, 3.0, 1.0]], dtype=DOUBLE).log()
    target, others = decoupled_divergence(torch.zeros(1, 3, dtype=DOUBLE), teacher, torch.tensor([0]))
    assert target.item() == pytest.approx(0.5 * math.log(3 / 2) + 0.5 * math.log(3 / 4))
    assert others.item() == pytest.approx(0.75 * math.log(3 / 2) + 0.25 * math.log(1 / 2))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_agrees_with_a_loop_over_images(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    expected = by_loop(student, teacher, temperature)
    for part, reference in zip(decoupled_divergence(student, teacher, LABELS, temperature), expected, strict=True):
        np.testing.assert_allclose(part.numpy(), reference)
    spec = {"name": "dkd", "alpha": 0.5, "beta": 6, "temperature": temperature}
    weighted = 0.5 * np.mean(expected[0]) + 6 * np.mean(expected[1])
    assert loss_of(spec, student, teacher, LABELS).item() == pytest.approx(temperature**2 * weighted)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_the_case_in_which_the_teachers_doubt_weighs_the_other_classes(temperature: float) -> None:
    """KL = TCKD + (1 - p) * NCKD, image by image, with p the teacher's softened probability of the label."""
    student, teacher = logits(0), logits(1)
    target, others = decoupled_divergence(student, teacher, LABELS, temperature)
    ours, theirs = (softmax(value.numpy() / temperature, 1) for value in (student, teacher))
    doubt = 1 - theirs[np.arange(6), LABELS.numpy()]
    np.testing.assert_allclose(target.numpy() + doubt * others.numpy(), rel_entr(theirs, ours).sum(1))


def test_its_parts_weigh_apart() -> None:
    """Shifting the label's logit changes only TCKD; the order of the other classes only NCKD."""
    teacher = logits(1)
    surer = teacher.clone()
    surer[torch.arange(6), LABELS] += 2
    target, others = decoupled_divergence(surer, teacher, LABELS)
    assert (target > 0).all()
    torch.testing.assert_close(others, torch.zeros(6, dtype=DOUBLE))
    label, first, second = 0, 3, 7
    swapped = teacher.clone()
    swapped[:, [first, second]] = teacher[:, [second, first]]
    target, others = decoupled_divergence(swapped, teacher, torch.full((6,), label))
    torch.testing.assert_close(target, torch.zeros(6, dtype=DOUBLE))
    assert (others > 0).all()


def test_of_two_classes_the_target_is_all() -> None:
    student, teacher = logits(0, classes=2), logits(1, classes=2)
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    assert loss_of("dkd", student, teacher, labels).item() == pytest.approx(loss_of("kd", student, teacher).item())


def test_a_teacher_that_is_sure_beyond_precision_has_a_ranking_still() -> None:
    """1 - p is 0 in single precision, which a quotient of probabilities could not be divided by."""
    teacher = torch.tensor([[200.0, 2.0, 1.0]])
    target, others = decoupled_divergence(torch.zeros(1, 3), teacher, torch.tensor([0]))
    sure = softmax([2.0, 1.0])
    assert target.item() == pytest.approx(math.log(3))
    assert others.item() == pytest.approx(rel_entr(sure, [0.5, 0.5]).sum(), rel=1e-5)


def test_the_published_warm_up_raises_it_beside_the_whole_label_term() -> None:
    """Released code: the loss times min(epoch / 20, 1), epochs counted from 1, added to 1 * CE."""
    torch.manual_seed(0)
    listed = with_label_term([OBJECTIVES.parse({"name": "dkd", "warmup": 20})])
    task = Distillation(TwoMaps(), [Teacher(TwoMaps())], listed, (1, 6, 6)).eval()
    batch = Batch(torch.randn(6, 1, 6, 6), LABELS % 3, torch.arange(6))
    parts = []
    for epoch in (0, 9, 19, 239):
        task.begin_epoch(epoch, 240)
        parts.append(task(batch))
    full = parts[-1]["dkd"]
    assert full > 0
    torch.testing.assert_close(torch.stack([part["dkd"] / full for part in parts]), torch.tensor([0.05, 0.5, 1, 1]))
    label_terms = {part["cross-entropy"].item() for part in parts}
    assert label_terms == {torch.nn.functional.cross_entropy(task.network(batch.images), batch.labels).item()}


def test_both_parts_are_reported_beside_the_agreement_and_in_no_sum() -> None:
    student, teacher = logits(0, classes=4), logits(1, classes=4)
    student[2] = teacher[2]
    objective = OBJECTIVES.parse({"name": "dkd", "alpha": 0.5, "beta": 6})
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(6, 4, bias=False)) for _ in range(2)]
    for network, said in zip(networks, (student, teacher), strict=True):
        network[1].weight.data.copy_(said.T)
    task = Distillation(networks[0], [Teacher(networks[1])], [objective], (1, 1, 6))
    losses = task(Batch(torch.eye(6).view(6, 1, 1, 6), LABELS % 4, torch.arange(6)))
    reported = task.take_reported()
    assert losses.keys() == {"dkd"}
    same = student.numpy().argmax(1) == teacher.numpy().argmax(1)
    assert float(reported["agreement/train"]) == pytest.approx(100 * same.mean())
    parts = float(reported["dkd/target class"]), float(reported["dkd/other classes"])
    assert 16 * (0.5 * parts[0] + 6 * parts[1]) == pytest.approx(losses["dkd"].item(), rel=1e-5)
    assert not task.take_reported()
