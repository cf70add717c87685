"""The overhaul of feature distillation: margins against scipy, distances by loops, and networks without such norms."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import truncnorm
from torch import nn

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.ofd import Overhaul, margins, partial_distance
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from tests.distill.features import bound, drawn, loss_of, network, train_briefly
from tests.distill.nets import TwoMaps

SHAPE = (3, 8, 8)


def norm_of(shifts: list[float], scales: list[float]) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(len(shifts))
    with torch.no_grad():
        norm.bias.copy_(torch.tensor(shifts))
        norm.weight.copy_(torch.tensor(scales))
    return norm


def test_a_margin_is_the_mean_of_the_negative_values() -> None:
    shifts, scales = [0.0, 0.5, -1.5, 2.0], [1.0, -2.0, 0.3, 0.7]
    expected = [
        truncnorm.mean(-float("inf"), -shift / abs(scale), loc=shift, scale=abs(scale))
        for shift, scale in zip(shifts, scales, strict=True)
    ]
    assert margins(norm_of(shifts, scales)).tolist() == pytest.approx(expected, rel=1e-5)


def test_channels_that_are_hardly_ever_negative_or_constant_have_finite_margins() -> None:
    """A cdf(-4) of 3e-5 is below 1/1000; a scale of 0 leaves the shift, if it is negative."""
    found = margins(norm_of([4.0, -2.0, 2.0, 0.0], [1.0, 0.0, 0.0, 0.0]))
    assert found.tolist() == pytest.approx([-3.0, -2.0, 0.0, 0.0])
    assert margins(nn.BatchNorm2d(1, affine=False)).tolist() == pytest.approx([-((2 / torch.pi) ** 0.5)])


def test_the_cases_by_hand() -> None:
    """Of margin -1: on, above it; below and above a negative target; below and above a target that is cut off."""
    teacher = torch.tensor([2.0, 2.0, -0.5, -0.5, -4.0, -4.0]).view(1, 6, 1, 1)
    student = torch.tensor([1.0, 4.0, -3.0, 0.5, -2.0, 1.0]).view(1, 6, 1, 1)
    assert float(partial_distance(student, teacher, -torch.ones(6))) == 1 + 4 + 0 + 1 + 0 + 4


def test_it_is_the_sum_over_an_image() -> None:
    student, teacher, cuts = 2 * drawn(0, 3, 4, 2, 2), 2 * drawn(1, 3, 4, 2, 2), -drawn(2, 4).abs()
    total = 0.0
    for image in range(3):
        for channel in range(4):
            places = zip(
                student[image, channel].flatten().tolist(), teacher[image, channel].flatten().tolist(), strict=True
            )
            for ours, theirs in places:
                target = max(theirs, float(cuts[channel]))
                total += 0.0 if ours <= target <= 0 else (ours - target) ** 2
    assert float(partial_distance(student, teacher, cuts)) == pytest.approx(total / 3, rel=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    student, teacher = drawn(0, 2, 3, 2, 2).requires_grad_(), drawn(1, 2, 3, 2, 2)
    assert torch.autograd.gradcheck(lambda given: partial_distance(given, teacher, -torch.ones(3)), student)


def test_each_layer_counts_half_of_the_next_and_the_student_is_connected() -> None:
    teacher = TwoMaps(channels=8)
    with torch.no_grad():
        teacher.first[1].bias.copy_(torch.linspace(-1, 1, 8))  # type: ignore[operator, union-attr]
    term = bound("ofd", TwoMaps(), teacher, (1, 6, 6))
    assert (term.student_points, term.teacher_points) == (("first.1", "second.1"), ("first.1", "second.1"))
    assert isinstance(term.loss, Overhaul)
    loss = term.loss.double()
    ours, theirs = [drawn(0, 2, 4, 4, 4), drawn(1, 2, 4, 2, 2)], [drawn(2, 2, 8, 4, 4), drawn(3, 2, 8, 2, 2)]
    expected = sum(
        share * partial_distance(connector(one), other, margins(norm))
        for share, connector, one, other, norm in zip(
            (0.5, 1), loss.connectors, ours, theirs, (teacher.first[1], teacher.second[1]), strict=True
        )
    )
    torch.testing.assert_close(loss_of(term, ours, theirs), expected)


@pytest.mark.parametrize(
    ("name", "options", "point"),
    [
        ("resnet-8", {}, "groups.0"),
        ("wrn-10-1", {"pairs": [["groups.0", "groups.0"]]}, "groups.0"),
        ("wrn-10-1", {"pairs": [["groups.0", "norm:input"]]}, "norm:input"),
    ],
)
def test_teachers_whose_norms_are_not_rectified_are_refused(name: str, options: dict[str, object], point: str) -> None:
    with pytest.raises(UserError, match=f"a batch norm of the teacher hands to a rectifier, and '{point}' has none"):
        bound({"name": "ofd", **options}, network("wrn-10-1", SHAPE), network(name, SHAPE), SHAPE)


def test_a_student_learns_what_its_teachers_rectifiers_read() -> None:
    """The teacher's norms are those of a frozen copy, of which some are folded into convolutions."""
    teacher = network("wrn-10-2", SHAPE, 1)
    task = Distillation(network("wrn-10-1", SHAPE), [Teacher(teacher)], [OBJECTIVES.parse("ofd")], SHAPE)
    first, last = train_briefly(task, SHAPE, "ofd")
    assert last < 0.9 * first
