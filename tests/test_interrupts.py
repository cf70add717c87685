"""Stops of one of several processes: whoever started it may pass a signal on that it already got."""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nasdistill import interrupts
from nasdistill.interrupts import polite_stops, requested_stop


@pytest.fixture(autouse=True)
def _a_terminal_to_lose() -> Iterator[None]:
    """A test run below `nohup` ignores SIGHUP, and so would those that it starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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


def test_a_second_sign_of_a_lost_terminal_or_of_the_time_limit_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for first in (signal.SIGHUP, signal.SIGUSR1):
        with polite_stops():
            for number in (first, signal.SIGHUP, signal.SIGUSR1):
                os.kill(os.getpid(), number)
            assert (requested_stop(), statuses) == (first, [])
            os.kill(os.getpid(), signal.SIGTERM)
        assert statuses.pop() == 143


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with polite_stops():
            os.kill(os.getpid(), signal.SIGHUP)
            assert requested_stop() is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


LOST = """
import os, sys
from pathlib import Path
from nasdistill.interrupts import polite_stops, requested_stop

with polite_stops():
    print("begun", flush=True)
    while requested_stop() is None:
        pass
    print("words for nobody", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text(str(requested_stop()))
"""


def test_a_process_whose_terminal_is_lost_can_still_save(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", LOST, str(tmp_path / "saved")])  # noqa: S606
    assert os.read(terminal, 100).startswith(b"begun")
    os.close(terminal)
    _child, status = os.waitpid(child, 0)
    assert (os.waitstatus_to_exitcode(status), (tmp_path / "saved").read_text()) == (0, str(int(signal.SIGHUP)))
