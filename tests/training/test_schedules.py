"""Schedules against torch's own, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from nasdistill.errors import SpecError
from nasdistill.registry import build, registry
from nasdistill.training.settings import TrainingSettings

EPOCHS, STEPS = 20, 7


def learning_rates(**options: object) -> list[float]:
    settings = build(TrainingSettings, {"epochs": EPOCHS, "optimizer": {"name": "sgd", "lr": 0.4}, **options})
    return [settings.learning_rate(step, STEPS) for step in range(EPOCHS * STEPS)]


def of_torch(make: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    schedule = make(optimizer)  # type: ignore[operator]
    rates = []
    for _ in range(EPOCHS * STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_cosine_is_torchs() -> None:
    expected = of_torch(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * STEPS, eta_min=0.1))
    assert learning_rates(schedule={"name": "cosine", "floor": 0.25}) == pytest.approx(expected)


@pytest.mark.parametrize("milestones", [(0.3, 0.6, 0.8), (6, 12, 16)])
def test_multistep_is_torchs_in_fractions_and_in_epochs(milestones: tuple[float, ...]) -> None:
    expected = of_torch(
        lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [6 * STEPS, 12 * STEPS, 16 * STEPS], gamma=0.2)
    )
    assert learning_rates(schedule={"name": "multistep", "milestones": milestones}) == pytest.approx(expected)


def test_constant_stays() -> None:
    assert set(learning_rates(schedule="constant")) == {0.4}


def test_warm_up_rises_linearly_and_ends_at_the_peak() -> None:
    rates = learning_rates(schedule="constant", warmup=2)
    assert rates[: 2 * STEPS] == pytest.approx([0.4 * (step + 1) / (2 * STEPS) for step in range(2 * STEPS)])
    assert set(rates[2 * STEPS :]) == {0.4}


@given(epochs=st.integers(2, 400), steps=st.integers(1, 1000), data=st.data())
def test_milestones_fall_on_the_first_step_of_their_epoch(epochs: int, steps: int, data: st.DataObject) -> None:
    milestone = data.draw(st.integers(1, epochs - 1))
    schedule = registry("schedules").parse({"name": "multistep", "milestones": [milestone], "gamma": 0.5})
    total = epochs * steps
    assert schedule.factor((milestone * steps - 1) / total, epochs) == 1.0
    assert schedule.factor(milestone * steps / total, epochs) == 0.5


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"schedule": {"name": "multistep", "milestones": [60]}}, ("schedule", "milestones"), "never reached in 20"),
        ({"schedule": {"name": "multistep", "milestones": [0.3, 60]}}, ("schedule", "milestones"), "all fractions"),
        ({"schedule": "cosin"}, ("schedule",), "did you mean 'cosine'"),
        ({"warmup": 21}, ("warmup",), "exceeds `epochs: 20`"),
        ({"optimizer": {"name": "sgd", "momentum": 0}}, ("optimizer", "nesterov"), "set nesterov to false"),
        ({"optimizer": {"name": "sgd", "lr": -1}}, ("optimizer", "lr"), "greater than 0"),
        ({"learning_rate": 0.1}, ("learning_rate",), "unknown key"),
    ],
)
def test_wrong_settings_are_told_in_a_sentence(options: dict[str, object], path: tuple[str, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        build(TrainingSettings, {"epochs": EPOCHS, **options})
    assert caught.value.path == path


def test_triangular_is_two_straight_lines() -> None:
    done = np.arange(EPOCHS * STEPS) / (EPOCHS * STEPS)
    expected = 0.4 * np.interp(done, [0, 0.25, 1], [0.1, 1, 0.05])
    schedule = {"name": "triangular", "peak": 0.25, "start": 0.1, "end": 0.05}
    assert learning_rates(schedule=schedule) == pytest.approx(expected.tolist())
