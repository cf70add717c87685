"""Relational distillation against loops over pairs and triples, and what leaves it unchanged."""

from __future__ import annotations

import math

import pytest
import torch

from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.distill.objectives.rkd import relations
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch
from tests.distill.features import network, train_briefly

SHAPE = (3, 8, 8)
POINT = "classifier:input"


def embeddings(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loss_of(student: torch.Tensor, teacher: torch.Tensor, **options: object) -> torch.Tensor:
    objective = OBJECTIVES.parse({"name": "rkd", **options})
    loss = objective.bind(network("wrn-10-1", SHAPE), network("wrn-10-1", SHAPE), SHAPE).loss
    logits = torch.empty(0)
    batch = Batch(logits, logits, logits)
    return loss(Outputs(logits, {POINT: student}), Outputs(logits, {POINT: teacher}), batch)


def huber(ours: float, theirs: float) -> float:
    apart = abs(ours - theirs)
    return 0.5 * apart**2 if apart < 1 else apart - 0.5


def looped_distances(points: list[list[float]]) -> list[float]:
    lengths = [math.dist(one, other) for one in points for other in points]
    apart = [length for length in lengths if length > 0]
    return [length / (sum(apart) / len(apart)) for length in lengths]


def looped_angles(points: list[list[float]]) -> list[float]:
    def cosine(one: list[float], corner: list[float], other: list[float]) -> float:
        lengths = math.dist(one, corner) * math.dist(other, corner)
        dot = sum((a - c) * (b - c) for a, b, c in zip(one, other, corner, strict=True))
        return dot / lengths if lengths else 0.0

    return [cosine(one, corner, other) for corner in points for one in points for other in points]


@pytest.mark.parametrize(
    ("options", "distance_weight", "angle_weight"),
    [
        ({}, 25, 50),
        ({"distance_weight": 2, "angle_weight": 0}, 2, 0),
        ({"distance_weight": 0, "angle_weight": 3}, 0, 3),
    ],
)
def test_it_is_the_published_sum(options: dict[str, float], distance_weight: float, angle_weight: float) -> None:
    student, teacher = embeddings(0, 5, 3), 4 * embeddings(1, 5, 2, 2)
    student[0] *= 20
    teacher[3] *= 20
    ours, theirs = student.tolist(), teacher.flatten(1).tolist()
    distance = [huber(*pair) for pair in zip(looped_distances(ours), looped_distances(theirs), strict=True)]
    angle = [huber(*pair) for pair in zip(looped_angles(ours), looped_angles(theirs), strict=True)]
    assert max(distance) > 0.5, "both branches of the Huber loss take part"
    expected = distance_weight * sum(distance) / 25 + angle_weight * sum(angle) / 125
    assert float(loss_of(student, teacher, **options)) == pytest.approx(expected, rel=1e-12)


def test_a_triangle_by_hand() -> None:
    """Legs 3 and 4 with the right angle at the origin: distances 3, 4, 5 of mean 4, cosines 0, 3/5, 4/5."""
    distances, angles = relations(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
    torch.testing.assert_close(distances, torch.tensor([[0, 3, 4], [3, 0, 5], [4, 5, 0]]) / 4)
    assert [float(angles[at, one, other]) for at, one, other in ((0, 1, 2), (1, 0, 2), (2, 0, 1))] == pytest.approx(
        [0, 3 / 5, 4 / 5], abs=1e-6
    )


def test_scale_shift_and_rotation_change_nothing() -> None:
    teacher = embeddings(0, 6, 4)
    rotation = torch.linalg.qr(embeddings(1, 4, 4)).Q
    assert float(loss_of(7 * teacher @ rotation + 2, teacher)) == pytest.approx(0, abs=1e-24)


def test_gradients_are_those_of_finite_differences() -> None:
    student = embeddings(0, 4, 3).requires_grad_()
    teacher = embeddings(1, 4, 3)
    assert torch.autograd.gradcheck(lambda given: loss_of(given, teacher), student)


@pytest.mark.parametrize("student", [torch.zeros(4, 3), torch.tensor([[0.0] * 3, [0.0] * 3, [1.0] * 3, [2.0] * 3])])
def test_embeddings_that_coincide_have_finite_gradients(student: torch.Tensor) -> None:
    """As those of a student whose rectifiers are dead."""
    student = student.clone().requires_grad_()
    loss = loss_of(student, embeddings(1, 4, 3).float())
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e3


def test_a_single_image_has_no_relations() -> None:
    student = embeddings(0, 1, 3).requires_grad_()
    loss = loss_of(student, embeddings(1, 1, 3))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert student.grad.tolist() == [[0.0] * 3]


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = (embeddings(seed, 4, 16).bfloat16() for seed in (0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_of(student, teacher)
    assert float(found) == pytest.approx(float(loss_of(student.double(), teacher.double())), rel=1e-5)


def test_the_points_can_be_named() -> None:
    term = OBJECTIVES.parse({"name": "rkd", "pair": ["groups.1", "groups.2"]}).bind(
        network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE), SHAPE
    )
    assert (term.student_points, term.teacher_points) == (("groups.1",), ("groups.2",))


def test_a_network_without_a_linear_layer_needs_a_pair() -> None:
    convolution = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8), torch.nn.Flatten())
    with pytest.raises(UserError, match=r"the teacher has no linear layer, .* `pair: "):
        OBJECTIVES.parse("rkd").bind(network("wrn-10-1", SHAPE), convolution, SHAPE)


def test_a_student_learns_its_teachers_relations() -> None:
    task = Distillation(
        network("wrn-10-1", SHAPE), [Teacher(network("wrn-10-2", SHAPE, 1))], [OBJECTIVES.parse("rkd")], SHAPE
    )
    losses = train_briefly(task, SHAPE, "rkd")
    assert losses[-1] < 0.7 * losses[0]
