"""Polite stops: the first Ctrl-C or SIGTERM lets the running loop save and leave, the second ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from nasdistill.errors import Interrupted

_requested: int | None = None


def _handle(number: int, _frame: FrameType | None) -> None:
    global _requested
    if _requested is not None:
        os._exit(128 + number)
    _requested = number


@contextlib.contextmanager
def polite_stops() -> Iterator[None]:
    """Within this block SIGINT and SIGTERM are remembered; loops ask `stop_requested` and save before they leave."""
    global _requested
    _requested = None
    previous = {number: signal.signal(number, _handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _requested = None


def stop_requested() -> bool:
    return _requested is not None


def leave_if_requested() -> None:
    """Raise `Interrupted` if a stop was asked for; call it where everything worth keeping is on disk."""
    if _requested is not None:
        raise Interrupted(_requested)
