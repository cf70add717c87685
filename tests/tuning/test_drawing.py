"""Distributions as optuna draws them, beside nni's own drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nasdistill.recipes.varied import Varied
from nasdistill.tuning.drawing import alternatives, distribution, drawn_value

optuna = pytest.importorskip("optuna")

EVERY = {
    "choice": ("a", [1, 2], 3.5),
    "uniform": (-1, 5),
    "loguniform": (0.01, 100),
    "quniform": (1, 8, 2),
    "qloguniform": (3, 100, 7),
    "randint": (2, 6),
    "normal": (3, 2),
    "lognormal": (0, 1),
    "qnormal": (8, 2, 1),
    "qlognormal": (2, 1, 3),
}


def draws(varied: Varied, count: int) -> list:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    return [drawn_value(varied, study.ask({"x": distribution(varied)}).params["x"]) for _ in range(count)]


@pytest.mark.parametrize("kind", EVERY)
def test_the_values_are_those_that_nni_draws(kind):
    hpo = pytest.importorskip("nni.parameter_expressions")
    varied = Varied(kind=kind, arguments=EVERY[kind])
    numbers = np.random.RandomState(1)
    ours = draws(varied, 400)
    if kind in ("choice", "randint"):
        assert {str(value) for value in ours} == {str(value) for value in alternatives(varied) or ()} | (
            {"[1, 2]"} if kind == "choice" else set()
        )
        return
    theirs = [varied.value(getattr(hpo, kind)(*EVERY[kind], numbers)) for _ in range(400)]
    if kind[0] == "q":
        assert {type(value) for value in ours} == {type(value) for value in theirs}
        if (drawn := alternatives(varied)) is not None:
            all_of_them = [drawn_value(varied, each) for each in drawn]
            assert sorted(set(all_of_them)) == all_of_them
            assert set(ours) | set(theirs) <= set(all_of_them)
            assert "normal" in kind or set(all_of_them) == set(ours)
    # Kolmogorov and Smirnov's distance of two samples of 400, which passes 0.12 once in 150 times
    places = np.sort(np.array([*ours, *theirs]))
    one, other = (np.searchsorted(np.sort(sample), places, "right") / 400 for sample in (ours, theirs))
    assert np.abs(one - other).max() < 0.12


def test_tails_and_steps_stay_where_they_belong():
    low, high = (drawn_value(Varied(kind="normal", arguments=(3, 2)), at) for at in (0.02275013, 0.97724987))
    assert (low, high) == (pytest.approx(-1, abs=1e-5), pytest.approx(7, abs=1e-5))
    assert drawn_value(Varied(kind="lognormal", arguments=(1, 2)), 0.5) == pytest.approx(math.e)
    assert alternatives(Varied(kind="quniform", arguments=(1, 8, 2))) == [2, 4, 6, 8]
    assert alternatives(Varied(kind="uniform", arguments=(0, 1))) is None
    narrow = Varied(kind="qnormal", arguments=(8, 0.5, 1))
    assert [drawn_value(narrow, share) for share in alternatives(narrow) or ()] == [6, 7, 8, 9, 10]
    assert alternatives(Varied(kind="qlognormal", arguments=(0, 9, 1))) is None
