"""Stops of one of several processes: whoever started it may pass a signal on that it already got."""

from __future__ import annotations

import os
import signal
import time

import pytest

from nasdistill import interrupts
from nasdistill.interrupts import polite_stops, requested_stop


@pytest.mark.parametrize(("company", "later", "ended"), [(True, 1.0, []), (True, 60.0, [143]), (False, 1.0, [143])])
def test_the_echo_of_a_signal_is_no_second_one(
    monkeypatch: pytest.MonkeyPatch, company: bool, later: float, ended: list[int]
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if company:
        monkeypatch.setenv("LOCAL_RANK", "1")
    now = time.monotonic()
    with polite_stops():
        for moment in (now, now + later):
            monkeypatch.setattr(interrupts.time, "monotonic", lambda moment=moment: moment)
            os.kill(os.getpid(), signal.SIGTERM)
        assert requested_stop() == signal.SIGTERM
    assert statuses == ended
