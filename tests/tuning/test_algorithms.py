"""nni's tuners and assessors by name."""

import importlib

import pytest

from nasdistill.errors import SpecError
from nasdistill.tuning.algorithms import algorithm

pytest.importorskip("nni")


def test_direction_and_seed_are_added_where_they_are_taken():
    assert algorithm("tuner", "TPE", True, 7) == {
        "name": "TPE",
        "classArgs": {"optimize_mode": "maximize", "seed": 7},
        "budgets": False,
    }
    evolution = algorithm("tuner", {"name": "Evolution", "population_size": 8}, False, 7)
    assert evolution["classArgs"] == {"optimize_mode": "minimize", "population_size": 8}
    assert algorithm("assessor", "Medianstop", True, 0)["classArgs"] == {"optimize_mode": "maximize"}


def test_hyperband_hands_out_budgets():
    assert algorithm("tuner", {"name": "Hyperband", "R": 9}, True, 0)["budgets"]


@pytest.mark.parametrize(
    ("kind", "wanted", "told"),
    [
        ("tuner", "TEP", "unknown tuner 'TEP'; did you mean 'TPE'"),
        ("tuner", "PBT", "PBT is no tuner for a recipe: it copies weights"),
        ("tuner", {"name": "TPE", "sed": 1}, "unknown option of TPE 'sed'; did you mean 'seed'"),
        ("tuner", {"name": "TPE", "optimize_mode": "minimize"}, "unknown option of TPE 'optimize_mode'"),
        ("assessor", "Medianstp", "unknown assessor 'Medianstp'; did you mean 'Medianstop'"),
        ("assessor", "TPE", "unknown assessor 'TPE'"),
    ],
)
def test_mistakes(kind, wanted, told):
    with pytest.raises(SpecError) as error:
        algorithm(kind, wanted, True, 0)
    assert told in error.value.problem


def test_a_tuner_without_what_it_needs_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def without(name, *rest):
        if name.endswith("bohb_advisor"):
            raise ModuleNotFoundError("No module named 'ConfigSpace'", name="ConfigSpace")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(SpecError, match=r"BOHB needs ConfigSpace: pip install 'nni\[BOHB\]'"):
        algorithm("tuner", "BOHB", True, 0)
