"""nni's tuners and assessors by name."""

import importlib

import pytest

from nasdistill.errors import SpecError
from nasdistill.tuning.algorithms import algorithm

pytest.importorskip("nni")

SPACE = {"stages.a.beta": {"_type": "loguniform", "_value": [10, 3000]}}


def test_direction_and_seed_are_added_where_they_are_taken():
    assert algorithm("tuner", "TPE", True, 7, SPACE) == {
        "name": "TPE",
        "classArgs": {"optimize_mode": "maximize", "seed": 7},
        "budgets": False,
    }
    evolution = algorithm("tuner", {"name": "Evolution", "population_size": 8}, False, 7, SPACE)
    assert evolution["classArgs"] == {"optimize_mode": "minimize", "population_size": 8}
    assert algorithm("assessor", "Medianstop", True, 0, SPACE)["classArgs"] == {"optimize_mode": "maximize"}


def test_hyperband_hands_out_budgets():
    assert algorithm("tuner", {"name": "Hyperband", "R": 9}, True, 0, SPACE)["budgets"]


@pytest.mark.parametrize(
    ("kind", "wanted", "told"),
    [
        ("tuner", "TEP", "unknown tuner 'TEP'; did you mean 'TPE'"),
        ("tuner", "PBT", "PBT is no tuner for a recipe: it copies weights"),
        ("tuner", {"name": "TPE", "sed": 1}, "unknown option of TPE 'sed'; did you mean 'seed'"),
        ("tuner", {"name": "TPE", "optimize_mode": "minimize"}, "unknown option of TPE 'optimize_mode'"),
        (
            "tuner",
            {"name": "Evolution", "population_size": "abc"},
            "Evolution does not take this: population_size should",
        ),
        ("tuner", {"name": "TPE", "tpe_args": {"n_startup": 3}}, "TPE does not take this: "),
        ("tuner", "Metis", "Metis does not take this: Metis Tuner doesn't support this kind of variable: loguniform"),
        ("tuner", {"name": "Hyperband", "R": "nine"}, "Hyperband does not take this: Key 'R' error: 'nine'"),
        (
            "assessor",
            {"name": "Medianstop", "start_step": "x"},
            "Medianstop does not take this: start_step should be int",
        ),
        ("assessor", "Medianstp", "unknown assessor 'Medianstp'; did you mean 'Medianstop'"),
        ("assessor", "TPE", "unknown assessor 'TPE'"),
    ],
)
def test_mistakes(kind, wanted, told):
    with pytest.raises(SpecError) as error:
        algorithm(kind, wanted, True, 0, SPACE)
    assert told in error.value.problem


def test_a_tuner_without_what_it_needs_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def without(name, *rest):
        if name.endswith("bohb_advisor"):
            raise ModuleNotFoundError("No module named 'ConfigSpace'", name="ConfigSpace")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(SpecError, match=r"BOHB needs ConfigSpace: pip install 'nni\[BOHB\]'"):
        algorithm("tuner", "BOHB", True, 0, SPACE)
