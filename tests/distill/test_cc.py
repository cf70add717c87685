"""Correlation congruence against loops over images, in both forms."""

from __future__ import annotations

import math

import pytest
import torch

from nasdistill.component import Facts
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.cc import Congruence, correlations, neighbouring_errors
from nasdistill.distill.objectives.cc import CorrelationCongruence as Objective
from tests.distill.features import bound, drawn, loss_of, network

SHAPE = (3, 8, 8)


def test_the_kernel_is_the_expansion_of_a_gaussian() -> None:
    """Order 2 by loops; with the order it tends to exp(-gamma ||x - y||^2) of vectors of length 1."""
    points = drawn(0, 5, 3)
    units = points / points.norm(dim=1, keepdim=True)
    found = correlations(points, 0.4, 2)
    for i in range(5):
        for j in range(5):
            product = math.fsum(a * b for a, b in zip(units[i].tolist(), units[j].tolist(), strict=True))
            expected = math.exp(-0.8) * (1 + 0.8 * product + 0.8**2 * product**2 / 2)
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-12)
    gaussian = torch.exp(-0.4 * torch.cdist(units, units) ** 2)
    torch.testing.assert_close(correlations(points, 0.4, 15), gaussian, rtol=0, atol=1e-12)


def test_neighbouring_errors_by_hand() -> None:
    """Errors (1, 2), (3, 0), (0, 5): products 3 + 0 and 0 + 0, over two neighbours."""
    student = torch.tensor([[1.0, 2.0], [-3.0, 0.0], [0.0, 5.0]])
    assert float(neighbouring_errors(student, torch.zeros(3, 2))) == 3 / 2
    assert float(neighbouring_errors(student[:1], torch.zeros(1, 2))) == 0


@pytest.mark.parametrize("form", ["code", "paper"])
def test_a_step_compares_the_linear_embeddings(form: str) -> None:
    spec = {"name": "cc", "form": form, "dimensions": 4}
    term = bound(spec, network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE), SHAPE)
    assert (term.student_points, term.teacher_points) == (("classifier:input",), ("classifier:input",))
    assert isinstance(term.loss, Congruence)
    loss = term.loss.double()
    student, teacher = drawn(0, 5, 64), drawn(1, 5, 128)
    ours = student @ loss.student_embedding.weight.T + loss.student_embedding.bias
    theirs = teacher @ loss.teacher_embedding.weight.T + loss.teacher_embedding.bias
    if form == "code":
        errors = (ours - theirs).abs()
        expected = sum(errors[i] @ errors[i + 1] for i in range(4)) / 4
    else:
        expected = (correlations(ours, 0.4, 2) - correlations(theirs, 0.4, 2)).square().sum() / 25
    torch.testing.assert_close(loss_of(term, [student], [teacher]), expected)


def test_gradients_are_those_of_finite_differences() -> None:
    given = [drawn(seed, 4, 3).requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(neighbouring_errors, given)
    assert torch.autograd.gradcheck(lambda points: correlations(points, 0.4, 2), given[0])


def test_the_kernels_options_are_without_effect_in_the_other_form() -> None:
    told = dict(OBJECTIVES.parse({"name": "cc", "order": 3}).without_effect(Facts(classes=10)))
    assert told == {"order": "the form `code` has no kernel"}
    assert not dict(OBJECTIVES.parse({"name": "cc", "order": 3, "form": "paper"}).without_effect(Facts(classes=10)))


def test_maps_are_flattened_where_a_pair_names_them() -> None:
    objective = OBJECTIVES.parse({"name": "cc", "pair": ["groups.1", "groups.2"]})
    assert isinstance(objective, Objective)
    loss = objective.bind(network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE), SHAPE).loss
    assert isinstance(loss, Congruence)
    assert loss.student_embedding.in_features == 32 * 4 * 4
    assert loss.teacher_embedding.in_features == 128 * 2 * 2
