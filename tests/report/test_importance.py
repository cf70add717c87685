"""Importance against functions whose shares of variance are known in closed form, and against sums over a grid."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from nasdistill.report.importance import Array, boxes, importance, shares

HALVES = np.array(list(product((0.0, 0.5), repeat=2)))
"""Lower corners of the quarters of the unit square."""


@pytest.mark.parametrize(
    ("values", "alone", "total"),
    [
        ([0, 1, 3, 4], [0.9, 0.1], [0.9, 0.1]),  # steps of 3 and 1 that add: variances 9/4 and 1/4
        ([0, 1, 1, 0], [0, 0], [1, 1]),  # either, but not both: neither setting tells anything alone
        ([0, 0, 0, 1], [1 / 3, 1 / 3], [2 / 3, 2 / 3]),  # both: variance 3/16, of which 1/16 each alone and together
        ([2, 2, 7, 7], [1, 0], [1, 0]),
    ],
)
def test_quarters_of_a_square(values: list[float], alone: list[float], total: list[float]) -> None:
    found = shares(HALVES, HALVES + 0.5, np.array(values, dtype=float))
    assert found == pytest.approx(np.array([alone, total]), abs=1e-12)


def test_unequal_boxes() -> None:
    # 1 on the first quarter of the first setting, wherever the second: p (1 - p), all of the first one.
    lower, upper = np.array([[0, 0], [0.25, 0], [0.25, 0.5]]), np.array([[0.25, 1], [1, 0.5], [1, 1]])
    assert shares(lower, upper, np.array([1.0, 0, 0])) == pytest.approx(np.array([[1, 0], [1, 0]]), abs=1e-12)
    assert shares(lower, upper, np.ones(3)) is None


def test_a_tree_against_means_over_a_grid() -> None:
    steps = 40
    grid = (np.arange(steps) + 0.5) / steps
    cells = np.array(list(product(grid, repeat=3)))
    drawn = (
        np.random.default_rng(0).integers(0, steps + 1, (60, 3)) / steps
    )  # thresholds fall between cells or into them
    scores = 4 * drawn[:, 0] + np.sin(6 * drawn[:, 1]) * drawn[:, 2]
    tree = DecisionTreeRegressor(random_state=0).fit(drawn, scores)
    told = tree.predict(cells).reshape(steps, steps, steps)
    alone, total = [], []
    for at in range(3):
        others = tuple(other for other in range(3) if other != at)
        alone.append(told.mean(axis=others).var() / told.var())
        total.append(told.var(axis=at).mean() / told.var())
    found = shares(*boxes(tree.tree_))
    assert found == pytest.approx(np.array([alone, total]), abs=0.01)


def additive(places: Array) -> Array:
    return 3 * places[:, 0] + places[:, 1]  # variances 9/12 and 1/12


def product_of_two(places: Array) -> Array:
    return (places[:, 0] - 0.5) * (places[:, 1] - 0.5)


def sobol_g(places: Array) -> Array:
    """Sobol's g function with a = 0, 1, 4.5; a setting alone has the variance 1 / (3 (1 + a)²)."""
    shift = np.array([0, 1, 4.5])
    return ((np.abs(4 * places - 2) + shift) / (1 + shift)).prod(axis=1)


def g_shares() -> tuple[list[float], list[float]]:
    parts = 1 / (3 * (1 + np.array([0, 1, 4.5])) ** 2)
    variance = (1 + parts).prod() - 1
    return (parts / variance).tolist(), (parts * (1 + parts).prod() / (1 + parts) / variance).tolist()


@pytest.mark.parametrize(
    ("function", "alone", "total", "tolerance"),
    [
        (additive, [0.9, 0.1, 0], [0.9, 0.1, 0], 0.03),
        (product_of_two, [0, 0, 0], [1, 1, 0], 0.1),
        (sobol_g, *g_shares(), 0.08),
    ],
)
def test_a_forest_finds_the_shares_of_known_functions(
    function: Callable[[Array], Array], alone: list[float], total: list[float], tolerance: float
) -> None:
    places = np.random.default_rng(1).random((500, 3))
    found = importance(places.tolist(), function(places).tolist())
    assert found is not None
    assert found.alone == pytest.approx(alone, abs=tolerance)
    assert found.total == pytest.approx(total, abs=tolerance)
    assert found.out_of_bag > 0.85


def test_noise_has_no_out_of_bag_score_and_a_constant_no_importance() -> None:
    draw = np.random.default_rng(2)
    found = importance(draw.random((60, 2)).tolist(), draw.random(60).tolist())
    assert found is not None
    assert found.out_of_bag < 0.2
    assert importance([[0.1], [0.9]], [5.0, 5.0]) is None
