"""Checkpoints: the newest good one counts, and random numbers go on from it."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from nasdistill.errors import Interrupted, UserError
from nasdistill.interrupts import polite_stops
from nasdistill.training.checkpoints import Checkpoints, random_state, set_random_state
from nasdistill.training.loop import Resumable


def save(checkpoints: Checkpoints, *numbers: int) -> None:
    for number in numbers:
        checkpoints.save(number, {"number": number, "weights": torch.full((3,), float(number))})


def test_two_are_kept_and_the_newest_counts(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 9, 10, 11)
    assert len(list(tmp_path.iterdir())) == 2
    state = Checkpoints(tmp_path).load()
    assert state is not None
    assert state["number"] == 11


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1, 2)
    newest = checkpoints.newest
    assert newest is not None
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes({"cut": bytes(content[:-4]), "flip": bytes(content), "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        state = checkpoints.load()
    assert state is not None
    assert state["number"] == 1
    assert str(newest) in caplog.text
    save(checkpoints, 2, 3)
    state = checkpoints.load()
    assert state is not None
    assert state["number"] == 3


def test_it_saves_when_it_is_time(tmp_path: Path) -> None:
    asked: list[int] = []
    for seconds in (1e9, 0.0):
        checkpoints = Checkpoints(tmp_path, every_seconds=seconds)
        for number in (1, 2):
            checkpoints.step(number, lambda: asked.append(1) or {"x": 1})  # type: ignore[func-returns-value]
    assert len(asked) == 2


def test_a_polite_stop_saves_and_leaves(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_seconds=1e9)
    with polite_stops():
        checkpoints.step(1, lambda: {"number": 1})
        assert checkpoints.load() is None
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as stopped:
            checkpoints.step(2, lambda: {"number": 2})
    assert stopped.value.signal_number == signal.SIGTERM
    assert checkpoints.load() == {"number": 2}


def test_only_the_first_of_several_processes_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    Checkpoints(tmp_path, every_seconds=0).step(1, lambda: {"number": 1})
    assert not list(tmp_path.iterdir())


def test_random_numbers_go_on(tmp_path: Path) -> None:
    torch.manual_seed(3)
    torch.rand(5)
    Checkpoints(tmp_path).save(1, random_state())
    expected = torch.rand(5)
    torch.manual_seed(4)
    state = Checkpoints(tmp_path).load()
    assert state is not None
    set_random_state(state)
    assert torch.equal(torch.rand(5), expected)


def test_a_checkpoint_of_another_loop_is_named_and_not_read(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(3, {"network": {"weight": torch.ones(2)}, "random": random_state()})
    network = nn.Linear(2, 1)
    before = network.weight.clone()
    for parts in ({"network": network, "optimizer": torch.optim.SGD(network.parameters())}, {"network": network}):
        with pytest.raises(UserError, match=r"000000000003-.* is of another loop or another version"):
            Resumable(Checkpoints(tmp_path), **parts).resume()
        assert torch.equal(network.weight, before)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1, "what was there stays"
