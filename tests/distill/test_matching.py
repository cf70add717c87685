"""Layers of student and teacher are paired by their order, or by the size of their maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasdistill.distill.matching import by_size, match_points
from nasdistill.errors import UserError
from nasdistill.registry import registry
from tests.distill.nets import TwoMaps


class Downwards(nn.Sequential):
    """Strided convolutions with the given strides, one channel each; every one is a feature point."""

    def __init__(self, *strides: int) -> None:
        super().__init__(*(nn.Conv2d(1, 1, 3, stride, 1) for stride in strides))
        self.feature_points = tuple(str(index) for index in range(len(strides)))


def test_equally_many_points_are_paired_in_order() -> None:
    assert match_points(Downwards(1, 2), Downwards(2, 2), (1, 8, 8)) == (("0", "0"), ("1", "1"))


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        ((1, 2, 2), (1, 1, 2, 1, 2, 1), (("0", "1"), ("1", "3"), ("2", "5"))),
        ((1, 1, 2), (1, 2), (("1", "0"), ("2", "1"))),
        ((1, 1, 2), (1, 1, 1, 2), (("0", "1"), ("1", "2"), ("2", "3"))),
    ],
)
def test_otherwise_the_last_of_each_size(
    student: tuple[int, ...], teacher: tuple[int, ...], pairs: tuple[tuple[str, str], ...]
) -> None:
    assert match_points(Downwards(*student), Downwards(*teacher), (1, 8, 8)) == pairs


def test_a_point_without_counterpart_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"cannot be matched.*1 at 2x2.*0 at 8x8, 1 at 8x8, 2 at 4x4.*pairs:"):
        match_points(Downwards(1, 4), Downwards(1, 1, 2), (1, 8, 8))


def test_points_are_never_used_twice() -> None:
    with pytest.raises(UserError, match="cannot be matched"):
        by_size({"a": (8, 8), "b": (8, 8)}, {"x": (8, 8), "y": (4, 4), "z": (2, 2)})


def test_a_network_without_maps_needs_pairs() -> None:
    perceptron = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(UserError, match=r"the student has no feature points.*pairs"):
        match_points(perceptron, TwoMaps(), (1, 8, 8))


def test_wide_residual_networks_of_any_depth_match_group_by_group() -> None:
    models = registry("models")
    student, teacher = (models.parse(name).build((3, 32, 32), 10) for name in ("wrn-16-1", "wrn-40-2"))
    pairs = match_points(student, teacher, (3, 32, 32))
    assert len(pairs) == 3
    assert all(ours == theirs for ours, theirs in pairs)


def test_foreign_networks_have_points_too() -> None:
    torchvision = pytest.importorskip("torchvision")
    student, teacher = torchvision.models.resnet18(num_classes=4), torchvision.models.resnet34(num_classes=4)
    pairs = match_points(student, teacher, (3, 64, 64))
    assert pairs[-1] == ("layer4", "layer4")
    assert not any(parameter.grad is not None for parameter in student.parameters())
    assert torch.is_grad_enabled()
