"""How the loop goes: steps and learning rates by the fraction of the run, and what is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch

from nasdistill.errors import SpecError
from nasdistill.registry import build
from nasdistill.zero_shot.settings import MOST_WINDOWS, TransferSettings


def settings(**options: Any) -> TransferSettings:
    return build(TransferSettings, options)


def test_the_defaults_are_the_published_ones() -> None:
    default = settings()
    assert (default.pseudo_batches, default.batch_size, default.clip) == (80_000, 128, 5.0)
    assert default.steps_at(0) == default.steps_at(79_999) == (1, 10)
    assert default.rates_at(0) == (1e-3, 2e-3)
    assert default.rates_at(40_000) == pytest.approx((0.5e-3, 1e-3))
    rules = [default.generator_optimizer.build([torch.zeros(1)]), default.optimizer.build([torch.zeros(1)])]
    assert all(type(rule) is torch.optim.Adam and rule.defaults["betas"] == (0.9, 0.999) for rule in rules)


def test_steps_by_fraction_of_the_run() -> None:
    """Nicolini et al. 2019: 1, then 2 from a third on, then 4."""
    thirds = settings(pseudo_batches=100, generator_steps={0: 1, 0.33: 2, 0.67: 4}, student_steps={0.5: 3, 0: 10})
    assert [thirds.steps_at(done)[0] for done in range(100)] == [1] * 33 + [2] * 34 + [4] * 33
    assert [thirds.steps_at(done)[1] for done in range(100)] == [10] * 50 + [3] * 50


def test_a_schedule_of_steps_survives_json() -> None:
    """An artifact and a checkpointed run keep a config as JSON, whose keys are text."""
    first = settings(pseudo_batches=9, generator_steps={0: 1, 0.33: 2, 0.67: 4})
    again = settings(
        **json.loads(json.dumps(first.model_dump(mode="json", include={"pseudo_batches", "generator_steps"})))
    )
    assert [again.steps_at(done) for done in range(9)] == [first.steps_at(done) for done in range(9)]


@pytest.mark.parametrize(("iterations", "pictures"), [(8, 8), (100, 8), (7, 3), (3, 8), (5, 0), (80_000, 10)])
def test_pictures_are_spread_evenly_and_the_last_is_of_the_end(iterations: int, pictures: int) -> None:
    made = settings(pseudo_batches=iterations, pictures=pictures)
    taken = [done for done in range(1, iterations + 1) if made.pictured(done)]
    assert len(taken) == min(iterations, pictures)
    if pictures:
        assert taken[-1] == iterations
        gaps = [later - earlier for earlier, later in pairwise([0, *taken])]
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"generator_steps": {0.33: 2, 0.67: 4}}, ("generator_steps",), "the steps from the start on are missing"),
        ({"student_steps": {}}, ("student_steps",), "the steps from the start on are missing"),
        ({"generator_steps": 0}, ("generator_steps",), "every iteration takes at least 1 step, got 0"),
        ({"student_steps": {0: 1, 0.5: -2}}, ("student_steps",), "every iteration takes at least 1 step, got -2"),
        ({"generator_steps": {0: 1, 1.5: 2}}, ("generator_steps",), "lie from 0 to below 1, got 1.5"),
        (
            {"generator_steps": "many"},
            ("generator_steps",),
            "must be an integer, or",
        ),
        ({"pseudo_batches": 0}, ("pseudo_batches",), "greater than 0, got 0"),
        ({"batch_size": 1}, ("batch_size",), "greater than 1, got 1"),
        ({"clip": 0}, ("clip",), "greater than 0, got 0"),
        ({"on_collapse": "restrt"}, ("on_collapse",), "'warn', 'stop' or 'restart'"),
        ({"optimizer": "adma"}, ("optimizer",), "unknown optimizer 'adma'; did you mean 'adam'?"),
        (
            {"watch_every": 1},
            ("watch_every",),
            "curves of at most 10000 points are kept; for 80000 pseudo-batches at least 8, got 1",
        ),
    ],
)
def test_what_is_refused(options: dict[str, Any], path: tuple[object, ...], problem: str) -> None:
    with pytest.raises(SpecError) as error:
        settings(**options)
    assert error.value.path == path
    assert problem in error.value.problem


def test_as_many_points_as_are_kept_are_allowed() -> None:
    assert settings(pseudo_batches=MOST_WINDOWS, watch_every=1, evaluate_every=1)
    with pytest.raises(SpecError, match=r"at least 2, got 1") as caught:
        settings(pseudo_batches=MOST_WINDOWS + 1, evaluate_every=1)
    assert caught.value.path == ("evaluate_every",)


@pytest.mark.parametrize("field", ["schedule", "generator_schedule"])
def test_a_schedule_that_the_run_does_not_fit_is_refused_at_its_key(field: str) -> None:
    with pytest.raises(SpecError) as caught:
        settings(pseudo_batches=10, **{field: {"name": "multistep", "milestones": [5, 20]}})
    assert caught.value.path[0] == field
