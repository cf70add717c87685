"""The table of NAS-Bench-201 that comes with the package."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from nasdistill.errors import DamagedFile, SpecError
from nasdistill.models.base import MODELS
from nasdistill.models.cell_strings import canonical
from nasdistill.truth.nas_bench_201 import (
    DATA_SETS,
    FILE,
    OPERATIONS,
    accuracies,
    lookup,
    rank_correlations,
    rank_correlations_of,
    table,
)

SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


@pytest.mark.parametrize(
    ("data_set", "accuracy", "index"),
    [("CIFAR-10", 94.37, 6111), ("CIFAR-100", 73.51, 9930), ("ImageNet16-120", 47.31, 857)],
)
def test_the_optima_are_the_published_ones(data_set: str, accuracy: float, index: int) -> None:
    assert accuracies(data_set).max() == round(100 * accuracy)
    assert index in table()[accuracies(data_set) == accuracies(data_set).max(), 0]


def test_each_cell_of_the_benchmark_has_a_row() -> None:
    assert sorted(table()[:, 0]) == list(range(15_625))


def test_columns_are_those_of_the_source() -> None:
    assert spearmanr(table()[:, 4], accuracies("CIFAR-10")).statistic == pytest.approx(0.772, abs=5e-4)
    assert spearmanr(accuracies("CIFAR-10"), accuracies("CIFAR-100")).statistic == pytest.approx(0.980, abs=5e-4)


def test_the_cell_that_searches_collapse_into() -> None:
    found = lookup(SKIPS)
    assert found.index == 1835
    assert [each.accuracy for each in found.standings.values()] == [54.30, 15.61, 16.32]
    assert [(each.validation_12, each.test_12) for each in found.standings.values()] == [
        (33.94, 36.84),
        (10.32, 11.08),
        (6.57, 5.63),
    ]


def test_rank_and_regret() -> None:
    standings = lookup(BEST).standings
    assert (standings["CIFAR-10"].rank, standings["CIFAR-10"].regret) == (1, 0)
    assert standings["CIFAR-100"].regret == pytest.approx(73.51 - 73.22)
    assert standings["CIFAR-100"].rank == 1 + np.count_nonzero(accuracies("CIFAR-100") > 7322)


def test_cells_that_score_the_same_share_the_better_rank() -> None:
    nothing = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    found = lookup(nothing).standings["CIFAR-10"]
    alike = np.count_nonzero(accuracies("CIFAR-10") == 1000)
    assert found.accuracy == 10, "as good as guessing"
    assert alike > 1
    assert found.rank == 15_625 - alike + 1


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("|none~0|+|none~0|none~1|", "the cells of NAS-Bench-201 have 3 nodes beside their input, got 2"),
        (BEST.replace("nor_conv_1x1", "nor_conv_1x2"), "did you mean 'nor_conv_1x1'?"),
        (BEST.replace("~2", "~1"), "part 3 of a cell"),
    ],
)
def test_a_cell_that_the_benchmark_does_not_have_is_refused(cell: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=re.escape(sentence)):
        lookup(cell)


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "table.xz"
    content = bytearray(FILE.read_bytes())
    content[-100] ^= 1
    copy.write_bytes(content)
    with pytest.raises(DamagedFile, match="is not the one that was installed"):
        table(copy)
    with pytest.raises(DamagedFile, match="cannot be read: No such file"):
        table(tmp_path / "none.xz")


def test_how_far_cells_of_one_function_are_apart() -> None:
    """The pooled deviation that the how-to tells, of those whose mean is above the median."""
    alike = defaultdict(list)
    for row, (first, *others) in enumerate(itertools.product(OPERATIONS, repeat=6)):
        alike[canonical([[first], others[:2], others[2:]])].append(row)
    for name, deviation in zip(DATA_SETS, (0.2, 0.4, 0.5), strict=True):
        values = accuracies(name) / 100
        groups = [values[rows] for rows in alike.values() if len(rows) > 1]
        better = [group for group in groups if group.mean() >= np.median(values)]
        squares = sum(((group - group.mean()) ** 2).sum() for group in better)
        assert np.sqrt(squares / sum(len(group) - 1 for group in better)) == pytest.approx(deviation, abs=0.05)


def test_the_order_of_all_cells_by_their_operations_strengths() -> None:
    draw = np.random.default_rng(0)
    strengths = [dict(zip(OPERATIONS, draw.dirichlet(np.ones(5)).tolist(), strict=True)) for _edge in range(6)]
    scores = [
        sum(float(np.log(edge[name])) for edge, name in zip(strengths, cell, strict=True))
        for cell in itertools.product(OPERATIONS, repeat=6)
    ]
    found = rank_correlations_of(strengths)
    assert found["CIFAR-100"] == pytest.approx(spearmanr(scores, accuracies("CIFAR-100")).statistic)
    assert 0.01 < abs(found["CIFAR-10"]) < 1


def test_cells_that_a_space_leaves_out_are_not_ranked() -> None:
    only = [{"skip_connect": 1.0}] * 5
    found = rank_correlations_of([*only, {"nor_conv_3x3": 0.9, "skip_connect": 0.1}])
    assert found == dict.fromkeys(DATA_SETS, pytest.approx(1))


def test_the_order_of_some_cells_by_their_scores() -> None:
    models = [MODELS.parse({"name": "nas-bench-201", "cell": cell}) for cell in (SKIPS, BEST)]
    assert rank_correlations([(models[0], 1.0), (models[1], 2.0)]) == dict.fromkeys(DATA_SETS, pytest.approx(1))
    assert rank_correlations([(models[0], 2.0), (models[1], 1.0)]) == dict.fromkeys(DATA_SETS, pytest.approx(-1))
    assert np.isnan(list(rank_correlations([(models[0], 1.0), (models[1], 1.0)]).values())).all()
