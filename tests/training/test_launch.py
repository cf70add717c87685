"""What the first of several processes does when another one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from nasdistill.interrupts import polite_stops
from nasdistill.training import launch
from nasdistill.training.launch import Followers


def test_a_stop_is_passed_on_to_a_process_that_works_and_not_to_one_that_is_leaving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All stop at the same step, so that the first one may have left its loop when it sees the second one gone."""
    followers = Followers.__new__(Followers)
    followers._processes = [None]  # type: ignore[list-item]
    monkeypatch.setattr(launch, "GRACE", 0.0)
    monkeypatch.setattr(launch, "_leave", lambda _why: None)
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *signal: sent.append(signal))

    followers._miss(1, 128 + signal.SIGTERM)
    assert sent == []
    with polite_stops():
        followers._miss(1, 128 + signal.SIGTERM)
        assert sent == [(os.getpid(), signal.SIGTERM)]
        followers._miss(1, 1)
        monkeypatch.setattr(launch, "requested_stop", lambda: signal.SIGTERM)
        followers._miss(1, 128 + signal.SIGTERM)
        assert len(sent) == 1  # neither of a failure nor of what it was told itself


def test_several_devices_are_refused_where_no_program_could_be_started_again() -> None:
    """As in a notebook, the program is typed in: another process could not know it."""
    program = "from nasdistill.training.engine import Engine, EngineSettings; Engine(EngineSettings(devices=2))"
    done = subprocess.run([sys.executable], input=program, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "2 devices are 2 processes that run one program" in done.stderr
