"""Losses are summed exactly whenever they are read."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasdistill.errors import UserError
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
        named = dict(zip(NAMES, torch.tensor(row), strict=True))
        losses.add(step + 1, named, {"agreement": -row[0], "broken": math.nan})
        if step in looks:
            losses.read()
        if step == saved_at:
            saved, losses = losses.state_dict(), RunningLosses()
            losses.load_state_dict(saved)
    losses.read()
    assert losses.latest in (sum(rows[-1]), pytest.approx(math.nan, nan_ok=True))
    means = losses.take_means()
    assert means.keys() == {*NAMES, "agreement"}  # a curve has no place for nan
    assert means["agreement"] == pytest.approx(-means["cross-entropy"])
    for name, column in zip(NAMES, zip(*rows, strict=True), strict=True):
        total = 0.0
        for value in column:
            total += value
        assert means[name] == total / len(rows)


def test_the_first_bad_step_is_named() -> None:
    losses = RunningLosses()
    for step, value in enumerate([1.0, 2.0, math.inf, math.nan], 11):
        losses.add(step, dict(zip(NAMES, torch.tensor([0.5, value]), strict=True)))
    with pytest.raises(Diverged, match="the kd loss is inf at step 13"):
        losses.read()


def test_each_step_tells_the_same_names() -> None:
    losses = RunningLosses()
    losses.add(1, {"kd": torch.tensor(1.0)}, {"agreement": 50.0})
    with pytest.raises(UserError, match="step 2 tells kd, the steps before kd, agreement"):
        losses.add(2, {"kd": torch.tensor(1.0)})
