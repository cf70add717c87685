"""Losses are summed exactly whenever they are read."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasdistill.training.losses import Diverged, RunningLosses

NAMES = ["cross-entropy", "kd"]


@given(
    rows=st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=20),
    looks=st.sets(st.integers(0, 19)),
    saved_at=st.integers(0, 19),
)
def test_means_do_not_depend_on_when_it_looks_nor_on_a_restart(
    rows: list[tuple[float, float]], looks: set[int], saved_at: int
) -> None:
    losses = RunningLosses()
    for step, row in enumerate(rows):
        losses.add(step + 1, NAMES, torch.tensor(row))
        if step in looks:
            losses.look()
        if step == saved_at:
            saved, losses = losses.state_dict(), RunningLosses()
            losses.load_state_dict(saved)
    losses.look()
    assert losses.latest in (sum(rows[-1]), pytest.approx(math.nan, nan_ok=True))
    means = losses.take_means()
    for name, column in zip(NAMES, zip(*rows, strict=True), strict=True):
        total = 0.0
        for value in column:
            total += value
        assert means[name] == total / len(rows)


def test_the_first_bad_step_is_named() -> None:
    losses = RunningLosses()
    for step, value in enumerate([1.0, 2.0, math.inf, math.nan], 11):
        losses.add(step, NAMES, torch.tensor([0.5, value]))
    with pytest.raises(Diverged, match="the kd loss is inf at step 13"):
        losses.look()
