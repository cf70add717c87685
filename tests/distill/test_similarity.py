"""Similarity-preserving distillation against loops over images, and what leaves it unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.similarity import similarities, similarity_distance
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch
from tests.distill.features import network, train_briefly
from tests.distill.nets import TwoMaps

SHAPE = (3, 8, 8)


def activations(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def looped(student: torch.Tensor, teacher: torch.Tensor) -> float:
    def rows(activation: torch.Tensor) -> list[list[float]]:
        images = [image.flatten().tolist() for image in activation]
        products = [[sum(a * b for a, b in zip(ours, theirs, strict=True)) for theirs in images] for ours in images]
        return [[value / sum(other**2 for other in row) ** 0.5 for value in row] for row in products]

    pairs = zip(rows(student), rows(teacher), strict=True)
    total = sum((a - b) ** 2 for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))
    return total / len(student) ** 2


def test_it_is_the_published_sum() -> None:
    student, teacher = activations(0, 5, 2, 3, 3), activations(1, 5, 7)
    assert float(similarity_distance(student, teacher)) == pytest.approx(looped(student, teacher), rel=1e-12)


def test_two_images_by_hand() -> None:
    """(3, 4) and (0, 5): products 25, 20 / 20, 25, rows of norm sqrt(1025); orthogonal ones have the identity."""
    assert similarities(torch.tensor([[3.0, 4.0], [0.0, 5.0]]))[0].tolist() == pytest.approx(
        [25 / 1025**0.5, 20 / 1025**0.5]
    )
    student, teacher = torch.tensor([[3.0, 4.0], [0.0, 5.0]]), torch.eye(2)
    expected = 2 * ((25 / 1025**0.5 - 1) ** 2 + (20 / 1025**0.5) ** 2) / 4
    assert float(similarity_distance(student, teacher)) == pytest.approx(expected)


def test_a_rotation_and_a_scale_change_nothing() -> None:
    teacher = activations(0, 6, 5)
    rotation = torch.linalg.qr(activations(1, 5, 5)).Q
    assert float(similarity_distance(3 * teacher @ rotation, teacher)) == pytest.approx(0, abs=1e-28)


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = (activations(seed, 4, 16).bfloat16() for seed in (0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = similarity_distance(student, teacher)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(looped(student, teacher), rel=1e-5)


def test_the_last_feature_points_are_the_default_pair_and_several_add_up() -> None:
    student, teacher = network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE)
    term = OBJECTIVES.parse("similarity").bind(student, teacher, SHAPE)
    assert (term.student_points, term.teacher_points) == (("groups.2",), ("groups.2",))
    pairs = [["groups.1", "groups.2"], ["classifier:input", "groups.0"]]
    spec = {"name": "similarity", "pairs": pairs, "weight": 2}
    task = Distillation(student, [Teacher(teacher)], [OBJECTIVES.parse(spec)], SHAPE).double().eval()
    images = activations(3, 4, *SHAPE)
    found = task(Batch(images, torch.zeros(4, dtype=torch.int64), torch.arange(4)))["similarity"]
    maps = {}
    for name, whole in (("student", student), ("teacher", teacher.double().eval())):
        maps[name] = [whole.stem(images)]  # type: ignore[operator]
        for group in whole.groups:  # type: ignore[union-attr]
            maps[name].append(group(maps[name][-1]))
    pooled = nn.functional.relu(student.norm(maps["student"][3])).mean(dim=(2, 3))  # type: ignore[operator]
    expected = looped(maps["student"][2], maps["teacher"][3]) + looped(pooled, maps["teacher"][1])
    # The teacher's batch norms were folded in single precision.
    assert float(found.detach()) == pytest.approx(2 * expected, rel=1e-6)


def test_networks_without_feature_points_need_pairs() -> None:
    with pytest.raises(UserError, match="the student has no feature points of its own; give the pairs of points"):
        OBJECTIVES.parse("similarity").bind(network("mlp-8", (1, 6, 6)), TwoMaps(), (1, 6, 6))


def test_a_student_learns_its_teachers_similarities() -> None:
    task = Distillation(
        network("wrn-10-1", SHAPE), [Teacher(network("wrn-10-1", SHAPE, 1))], [OBJECTIVES.parse("similarity")], SHAPE
    )
    losses = train_briefly(task, SHAPE, "similarity")
    assert losses[-1] < 0.5 * losses[0]
