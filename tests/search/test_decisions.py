"""Whether a search decided anything: leads beside the noise between two halves of its steps."""

from __future__ import annotations

import math

import pytest
import torch

from nasdistill.report.records import Row
from nasdistill.report.sections.decisions import Decisions, DecisionsPayload
from nasdistill.search.decisions import BLOCK, Moves, decisions, undecided

NAMES = ("none", "skip", "conv", "pool")
EDGES = [(0, 0), (1, 0)]


def walked(drift: list[float], noise: float, steps: int, seed: int) -> tuple[torch.Tensor, Moves]:
    """Alphas of 40 edges after steps of a random walk with a drift for each operation."""
    generator = torch.Generator().manual_seed(seed)
    alphas = torch.zeros(40, len(drift), dtype=torch.float64)
    moves = Moves([alphas])
    for step in range(steps):
        with moves.of(step):
            alphas += torch.tensor(drift) + noise * torch.randn(alphas.shape, generator=generator, dtype=torch.float64)
    return alphas, moves


def test_the_halves_are_blocks_by_turns_and_survive_a_checkpoint() -> None:
    alphas, moves = walked([1.0, 0.0, 0.0, 0.0], 0.0, 3 * BLOCK + 2, 0)
    one, other = (half[0][0, 0].item() for half in moves.halves)
    assert (one, other) == (2 * BLOCK, BLOCK + 2)
    again = Moves([alphas])
    again.load_state_dict(moves.state_dict())
    assert all(torch.equal(a[0], b[0]) for a, b in zip(again.halves, moves.halves, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_a_random_walk_decides_almost_nothing_and_a_drift_almost_all(seed: int) -> None:
    for drift, low, high in (([0.0] * 4, 0, 6), ([9.0, 0.0, 0.3, 0.0], 36, 40)):
        alphas, moves = walked(drift, 0.4, 64 * BLOCK, seed)
        found = decisions(
            "normal", [(0, 0)] * 40, [NAMES] * 40, NAMES[1:], alphas, [half[0] for half in moves.halves], 0.0
        )
        assert low <= sum(each.decided for each in found) <= high
        # The lead of two independent walks of 512 steps has this standard deviation, whatever the drift.
        assert found[0].noise == pytest.approx(0.4 * math.sqrt(2 * 64 * BLOCK), rel=0.35)
        assert (undecided(found) is None) == (low > 0)


def test_margins_are_those_of_the_two_strongest_candidates() -> None:
    alphas = torch.tensor([[5.0, 1.0, 3.0, 2.5], [0.0, 0.2, 0.2, 0.1]])
    halves = [torch.zeros(2, 4), torch.zeros(2, 4)]
    first, second = decisions("reduce", EDGES, [NAMES] * 2, NAMES[1:], alphas, halves, 0.1)
    assert (first.kept, first.next, first.state, first.decided) == ("conv", "pool", 0, True)
    assert first.margin == pytest.approx(0.5)
    assert first.noise == pytest.approx(0.1 * math.sqrt(2))
    assert (second.kept, second.next, second.margin, second.decided) == ("skip", "conv", 0.0, False)
    assert "chance decided 1 of the 2 edges" in str(undecided([first, second]))
    assert "skip over conv by 0 (noise 0.14) from state 1 to node 0 of the reduce cell" in str(
        undecided([first, second])
    )
    assert decisions("reduce", EDGES, [NAMES] * 2, ("conv",), alphas, halves, 0.1) == []


def test_the_page_tells_what_is_decided() -> None:
    still = [torch.zeros(2, 4)] * 2
    plain = [
        each.plain()
        for each in decisions("reduce", EDGES, [NAMES] * 2, NAMES[1:3], torch.eye(2, 4).flip(0), still, 1e-3)
    ]
    (group,) = Decisions().of_seed("found", DecisionsPayload.model_validate({"edges": plain}), Row("arch", "search", 0))
    assert group.note == "1 of 2 edges are decided."
    assert group.table is not None
    assert [str(cell) for cell in group.table.rows[0]] == [
        "reduce: state 0 to node 0",
        "skip",
        "conv",
        "images",
        "1",
        "0.0014",
    ]
