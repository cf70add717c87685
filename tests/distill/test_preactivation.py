"""Which batch norms stand before a rectifier, in networks of each kind."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from nasdistill.distill.matching import default_points
from nasdistill.distill.preactivation import norms_before_rectifiers, preactivation_pairs
from tests.distill.features import network
from tests.distill.nets import TwoMaps

SHAPE = (3, 16, 16)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wrn-16-1", {"groups.0": "groups.1.0.norm1", "groups.1": "groups.2.0.norm1", "groups.2": "norm"}),
        ("resnet-8", {}),  # it rectifies sums
        ("densenet-22-4", {"features.0": "features.1.0", "features.2": "features.3.0", "features.4": "norm"}),
    ],
)
def test_it_is_the_norm_behind_a_point_or_the_last_one_in_it(name: str, expected: dict[str, str]) -> None:
    whole = network(name, SHAPE)
    before = {key: value.clone() for key, value in whole.state_dict().items()}
    assert norms_before_rectifiers(whole, default_points(whole, SHAPE, "student", ""), SHAPE) == expected
    assert whole.training
    assert all(torch.equal(value, before[key]) for key, value in whole.state_dict().items())


@pytest.mark.parametrize(
    ("rectifier", "norm"),
    [(nn.ReLU(inplace=True), "0.1"), (nn.ReLU6(), "0.1"), (nn.Identity(), None), (nn.GELU(), None)],
)
def test_the_last_norm_counts_if_its_output_is_rectified(rectifier: nn.Module, norm: str | None) -> None:
    """At the end of the chain, and at the rectifier itself, as in VGGs."""
    chain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), rectifier)
    whole = nn.Sequential(chain, nn.Conv2d(4, 2, 3), nn.Flatten())
    for point in ("0", "0.2"):
        assert norms_before_rectifiers(whole, [point], SHAPE) == ({point: norm} if norm else {})


def test_the_default_pairs_are_told_and_others_are_taken_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    student, teacher = TwoMaps(), TwoMaps(channels=8)
    with caplog.at_level(logging.INFO, logger="nasdistill"):
        found = preactivation_pairs("ab", (), student, teacher, (1, 6, 6))
    assert [(pair.ours, pair.theirs) for pair in found] == [("first.1", "first.1"), ("second.1", "second.1")]
    assert [(pair.student, pair.teacher) for pair in found] == [((4, 6, 6), (8, 6, 6)), ((4, 3, 3), (8, 3, 3))]
    assert "ab: compares the student's first.1 with the teacher's first.1, the student's second.1" in caplog.text
    (pair,) = preactivation_pairs("ab", (("first", "second"),), student, teacher, (1, 6, 6))
    assert (pair.ours, pair.theirs) == ("first", "second")
