"""Variational information distillation against scipy's Gaussians, and its learned variances."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from nasdistill.distill.objectives import Term
from nasdistill.distill.objectives.vid import VariationalInformation, gaussian_surprise
from nasdistill.errors import UserError
from tests.distill.features import bound, drawn, loss_of, network
from tests.distill.nets import TwoMaps

SHAPE = (1, 6, 6)


def information(spec: object = "vid") -> tuple[Term, VariationalInformation]:
    term = bound(spec, TwoMaps(), TwoMaps(channels=8), SHAPE)
    assert isinstance(term.loss, VariationalInformation)
    return term, term.loss


def test_it_is_the_surprise_under_scipys_gaussians() -> None:
    """But for its constant, log(2 pi) / 2."""
    maps, means, scales = drawn(0, 3, 4, 2, 5), drawn(1, 3, 4, 2, 5), drawn(2, 4)
    deviations = (torch.log1p(scales.exp()) + 1e-5).sqrt().view(4, 1, 1)
    expected = -norm.logpdf(maps, means, deviations.expand_as(maps)).mean() - math.log(2 * math.pi) / 2
    assert float(gaussian_surprise(maps, means, scales)) == pytest.approx(expected, rel=1e-12)


def test_every_channel_starts_with_variance_5() -> None:
    _term, loss = information()
    for scales, channels in zip(loss.scales, (8, 8), strict=True):
        assert scales.shape == (channels,)
        maps = torch.zeros(1, channels, 1, 1)
        assert float(gaussian_surprise(maps, maps, scales).detach()) == pytest.approx(math.log(5) / 2, rel=1e-6)


def test_the_loss_sums_over_pairs_what_three_convolutions_leave_open() -> None:
    """Each place's channels go through three matrices; the larger map is averaged to the smaller."""
    term, loss = information({"name": "vid", "pairs": [["first", "second"], ["second", "second"]]})
    loss.double()
    student, teacher = [drawn(0, 2, 4, 4, 4), drawn(1, 2, 4, 2, 2)], drawn(2, 2, 8, 2, 2)
    averaged = [student[0].reshape(2, 4, 2, 2, 2, 2).mean(dim=(3, 5)), student[1]]
    expected = 0.0
    for maps, predict, scales in zip(averaged, loss.means, loss.scales, strict=True):
        first, second, third = (weight[:, :, 0, 0].detach() for weight in predict.parameters())
        hidden = torch.einsum("dc,nchw->ndhw", first, maps).clamp(min=0)
        hidden = torch.einsum("dc,nchw->ndhw", second, hidden).clamp(min=0)
        means = torch.einsum("dc,nchw->ndhw", third, hidden)
        expected += float(gaussian_surprise(teacher, means, scales.detach()))
    found = loss_of(term, student, [teacher, teacher])
    assert float(found.detach()) == pytest.approx(expected, rel=1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    given = [drawn(seed, 2, 3, 2, 2).requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(gaussian_surprise, (*given, drawn(2, 3).requires_grad_()))


def test_the_best_variance_is_that_of_the_errors() -> None:
    """At v = mean squared error the gradient of the scale is 0."""
    maps, means = drawn(0, 4, 1, 3, 3), drawn(1, 4, 1, 3, 3)
    variance = float((maps - means).square().mean())
    scales = torch.tensor([math.log(math.expm1(variance - 1e-5))], dtype=torch.float64, requires_grad=True)
    gaussian_surprise(maps, means, scales).backward()
    assert scales.grad is not None
    assert float(scales.grad) == pytest.approx(0, abs=1e-12)


def test_vectors_are_no_maps() -> None:
    with pytest.raises(UserError, match="the student has no feature points of its own; give the pairs of points"):
        bound("vid", network("mlp-8", SHAPE), TwoMaps(), SHAPE)
    with pytest.raises(UserError, match=r"it compares maps .*, but the student's module 'classifier' puts out \[3\]"):
        information({"name": "vid", "pairs": [["classifier", "second"]]})
