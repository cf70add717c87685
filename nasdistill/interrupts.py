"""Polite stops: a first signal lets the running loop save and leave, a second Ctrl-C or SIGTERM ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

from nasdistill.errors import Interrupted

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C, what systems end a process by, a lost terminal, and what SLURM users often have sent before time is over."""

ECHO = 5.0
"""Seconds in which a second signal to one of several processes is the first one passed on by who started it."""

_requested: int | None = None
_requested_at = 0.0


def _handle(number: int, _frame: FrameType | None) -> None:
    global _requested, _requested_at
    if number == signal.SIGHUP:
        _give_up_lost_terminal()
    if _requested is None:
        _requested, _requested_at = number, time.monotonic()
    elif number not in (signal.SIGINT, signal.SIGTERM):
        return  # a lost terminal is told by the kernel and by the shell
    elif "LOCAL_RANK" not in os.environ or time.monotonic() - _requested_at > ECHO:
        os._exit(128 + number)


def _give_up_lost_terminal() -> None:
    """Words for a terminal that is gone go nowhere: an error in place of each would end the work before it is saved."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), descriptor)


@contextlib.contextmanager
def polite_stops() -> Iterator[None]:
    """Within this block `STOPS` are remembered; loops ask `requested_stop` and save before they leave.

    Where SIGHUP is ignored, as by `nohup`, it stays so.
    """
    global _requested
    _requested = None
    kept = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    previous = {number: signal.signal(number, _handle) for number in STOPS if number not in kept}
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
