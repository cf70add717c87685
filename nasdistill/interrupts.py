"""Polite stops: the first Ctrl-C or SIGTERM lets the running loop save and leave, the second ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

from nasdistill.errors import Interrupted

ECHO = 5.0
"""Seconds in which a second signal to one of several processes is the first one passed on by who started it."""

_requested: int | None = None
_requested_at = 0.0


def _handle(number: int, _frame: FrameType | None) -> None:
    global _requested, _requested_at
    if _requested is None:
        _requested, _requested_at = number, time.monotonic()
    elif "LOCAL_RANK" not in os.environ or time.monotonic() - _requested_at > ECHO:
        os._exit(128 + number)


@contextlib.contextmanager
def polite_stops() -> Iterator[None]:
    """Within this block SIGINT and SIGTERM are remembered; loops ask `requested_stop` and save before they leave."""
    global _requested
    _requested = None
    previous = {number: signal.signal(number, _handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _requested = None


def stops_are_polite() -> bool:
    """Whether this process would remember a signal now; where it would not, it has not begun or is leaving."""
    return signal.getsignal(signal.SIGTERM) is _handle


def requested_stop() -> int | None:
    """The signal that asked this process to stop, if one did."""
    return _requested


def leave_if_requested() -> None:
    """Raise `Interrupted` if a stop was asked for; call it where everything worth keeping is on disk."""
    if _requested is not None:
        raise Interrupted(_requested)
