from __future__ import annotations

import math

import pytest
import torch

from nasdistill.models.genotypes import DARTS_V1, DARTS_V2
from nasdistill.search.mixture import Mixture, Moment
from nasdistill.search.selections import SELECTIONS
from nasdistill.search.selections.strongest import count_skips, strongest_cell
from nasdistill.search.spaces import SPACES
from nasdistill.search.spaces.cells import CellSpace


def small_space(**options: object) -> CellSpace:
    operations = ["none", "skip_connect", "sep_conv_3x3"]
    space: CellSpace = SPACES.parse({"name": "custom", "operations": operations, "nodes": 2, **options})
    return space


def test_a_hand_computed_cell() -> None:
    weights = torch.tensor(
        [
            [0.1, 0.2, 0.7],  # state 0 to node 0: sep, 0.7
            [0.0, 0.6, 0.4],  # state 1 to node 0: skip, 0.6
            [0.9, 0.1, 0.0],  # state 0 to node 1: skip, 0.1, though "none" weighs 0.9
            [0.3, 0.3, 0.4],  # state 1 to node 1: sep, 0.4
            [0.2, 0.5, 0.3],  # state 2 to node 1: skip, 0.5
        ]
    )
    assert strongest_cell(small_space(), "normal", weights) == (
        (("sep_conv_3x3", 0), ("skip_connect", 1)),
        (("skip_connect", 2), ("sep_conv_3x3", 1)),
    )


def test_of_equals_the_earlier_state_and_operation_win() -> None:
    weights = torch.full((5, 3), 1 / 3)
    assert strongest_cell(small_space(), "normal", weights) == (
        (("skip_connect", 0), ("skip_connect", 1)),
        (("skip_connect", 0), ("skip_connect", 1)),
    )


def test_nodes_keep_as_many_edges_as_the_space_says() -> None:
    weights = torch.full((5, 3), 1 / 3)
    assert [len(node) for node in strongest_cell(small_space(edges_per_node=1), "normal", weights)] == [1, 1]
    assert [len(node) for node in strongest_cell(small_space(edges_per_node=3), "normal", weights)] == [2, 3]


@pytest.mark.parametrize("published", [DARTS_V1, DARTS_V2])
def test_weights_that_mean_a_published_genotype_give_it_back(published) -> None:
    space = SPACES.parse("darts")
    for cell in (published.normal, published.reduce):
        weights = torch.full((14, 8), 0.05)
        for node, edges in enumerate(cell):
            for rank, (operation, state) in enumerate(edges):
                row = space.edges().index((state, node))
                weights[row, space.operations.index(operation)] = 0.5 - 0.1 * rank
        assert strongest_cell(space, "normal", weights) == cell


def test_skips_are_counted() -> None:
    assert [count_skips(DARTS_V1.normal), count_skips(DARTS_V2.normal), count_skips(DARTS_V2.reduce)] == [3, 2, 3]


def mixture(weights: torch.Tensor, cell: str = "normal", shares: torch.Tensor | None = None) -> Mixture:
    return Mixture(cell, Moment(), weights, weights, shares)


def test_entropy_is_that_of_known_distributions_whatever_their_sum() -> None:
    assert mixture(torch.full((3, 8), 1 / 8)).entropy() == pytest.approx(math.log(8))
    assert mixture(torch.full((3, 5), 0.5), shares=torch.full((3,), 1 / 3)).entropy() == pytest.approx(math.log(5))
    assert mixture(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).entropy() == pytest.approx(math.log(2) / 2)


def test_the_share_of_an_edge_counts_in_its_strength() -> None:
    weights = torch.tensor([[0.0, 0.2, 0.8], [0.0, 0.4, 0.6], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    shares = torch.tensor([0.2, 0.8, 0.1, 0.5, 0.4])
    cell = SELECTIONS.parse("strongest").cell(small_space(), mixture(weights, shares=shares))
    assert [[state for _, state in node] for node in cell] == [[1, 0], [1, 2]]


def test_the_weakest_skips_give_way_where_they_are_capped() -> None:
    weights = torch.tensor(
        [[0.0, 0.6, 0.4], [0.0, 0.9, 0.1], [0.0, 0.7, 0.3], [0.0, 0.8, 0.2], [0.1, 0.4, 0.5]],
    )
    capped = SELECTIONS.parse({"name": "capped-skips", "skips": 2})
    # Four skips: 0.9, 0.6 at node 0 and 0.8, 0.7 at node 1. The first to go is 0.6, the second 0.7.
    assert capped.cell(small_space(), mixture(weights)) == (
        (("skip_connect", 1), ("sep_conv_3x3", 0)),
        (("skip_connect", 1), ("sep_conv_3x3", 2)),
    )
    assert count_skips(capped.cell(small_space(), mixture(weights, "reduce"))) == 4


def test_skips_stay_where_nothing_else_can_be() -> None:
    edges = [["none", "skip_connect"]] * 3 + [["none", "sep_conv_3x3"]] * 2
    space = small_space(edge_operations={"normal": edges, "reduce": edges})
    cell = SELECTIONS.parse({"name": "capped-skips", "skips": 0}).cell(space, mixture(torch.full((5, 2), 0.5)))
    assert cell == ((("skip_connect", 0), ("skip_connect", 1)), (("sep_conv_3x3", 1), ("sep_conv_3x3", 2)))
