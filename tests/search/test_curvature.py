"""The dominant eigenvalue against exact Hessians, and where it stops a search."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from nasdistill.data.preparation import load
from nasdistill.registry import registry
from nasdistill.search.bilevel import gradients
from nasdistill.search.curvature import before_the_rise, dominant_eigenvalue
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.spaces import SPACES
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.supernets import supernet_of
from tests.search.parts import engine

SPACE = SPACES.parse({"name": "nas-bench-201", "search_channels": 4, "search_cells": 1, "channels": 4, "cells": 1})
SMALL = SPACES.parse(
    {
        "name": "custom-nas-bench-201",
        "operations": ["none", "skip_connect", "nor_conv_1x1"],
        "nodes": 2,
        "stages": 1,
        "search_channels": 2,
        "search_cells": 1,
    }
)


@pytest.mark.parametrize(("diagonal", "eigenvalue"), [([1.0, -3.0, 2.0], -3.0), ([0.0, 0.0, 0.0], 0.0)])
def test_of_a_quadratic_form_it_is_that_of_its_matrix(diagonal: list[float], eigenvalue: float) -> None:
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double))
    matrix = rotation @ torch.diag(torch.tensor(diagonal, dtype=torch.double)) @ rotation.T
    one, two = torch.tensor([0.3], dtype=torch.double), torch.tensor([[1.0, -2.0]], dtype=torch.double)

    def gradient() -> list[torch.Tensor]:
        whole = matrix @ torch.cat([one, two[0]])
        return [whole[:1], whole[None, 1:]]

    assert dominant_eigenvalue(gradient, [one, two]) == pytest.approx(eigenvalue, rel=2e-3)
    assert (one.tolist(), two.tolist()) == ([0.3], [[1.0, -2.0]])


def test_of_a_supernet_it_is_that_of_the_exact_hessian() -> None:
    torch.manual_seed(0)
    supernet = supernet_of(SPACE, (1, 8, 8), 10).double()
    images, labels = torch.randn(8, 1, 8, 8, dtype=torch.double), torch.arange(8)
    (alphas,) = supernet.alphas()

    def loss(of: torch.Tensor) -> torch.Tensor:
        mixture = Mixture("normal", Moment(), of, of.softmax(dim=1))
        return functional.cross_entropy(supernet(images, [mixture]), labels)

    hessian = torch.autograd.functional.hessian(loss, alphas.detach()).reshape(30, 30)
    exact = max(torch.linalg.eigvalsh(hessian).tolist(), key=abs)

    @torch.enable_grad()
    def gradient() -> list[torch.Tensor]:
        return gradients(loss(alphas), [alphas])

    start = alphas.detach().clone()
    assert dominant_eigenvalue(gradient, [alphas]) == pytest.approx(exact, rel=0.02)
    assert torch.equal(alphas, start)


def test_a_rise_by_more_than_a_third_leads_back_to_the_middle_of_the_window_before() -> None:
    assert before_the_rise([1.0] * 5 + [1.3] * 5) is None  # 1 / 1.3 is more than 0.75
    assert before_the_rise([1.0] * 9) is None
    assert before_the_rise([1.0] * 5 + [1.4] * 5) == 2
    assert before_the_rise([9.0] * 3 + [1.0] * 5 + [0.5, 1.0, 1.5, 2.0, 2.5]) == 5


def test_a_search_stops_with_the_cells_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(registry("datasets").parse("digits"), 0)
    data = dataclasses.replace(loaded, train=loaded.train.subset(torch.arange(32)))
    options = {"name": "darts", "epochs": 12, "batch_size": 16, "alpha_lr": 0.2}
    watched = STRATEGIES.parse({**options, "epochs": 1, "eigenvalue": "watch"}).search(SMALL, data, engine(), 3)
    assert [epoch for epoch, value in watched.history["curves"]["eigenvalue"] if value != 0] == [0, 1]
    values = iter([1.0] * 6 + [3.0] * 9)
    monkeypatch.setattr("nasdistill.search.cell_learner.CellLearner.eigenvalue", lambda _self, _epoch: next(values))
    stopped = STRATEGIES.parse({**options, "eigenvalue": "stop"}).search(SMALL, data, engine(), 3)
    found = dict(map(tuple, stopped.history["found"]))
    # Means of five: 1 around epoch 2, and 2.6 around epoch 7, known after epoch 9.
    assert max(found) == 9
    assert stopped.model == found[2]
    assert len({str(model) for model in found.values()}) > 1
