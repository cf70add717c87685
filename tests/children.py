"""Forked children for tests: killed at a chosen call of the operating system, or by the clock when they hang."""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from collections.abc import Callable

import pytest

Act = Callable[[], object]

InAChild = Callable[[Act], int]
"""What the fixture `in_a_child` gives."""

POINTS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")


def forked(act: Act, seconds: int = 60) -> int:
    """Run `act` in a forked process; its wait status. A fork spares the seconds that importing torch takes.

    Tests take the fixture `in_a_child` instead: only with one thread may a child compute.

    Args:
        seconds: the test fails when the child takes longer, and the child's own stack stands in the test's output.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which kills, even where Python no longer listens
            faulthandler.register(signal.SIGALRM, file=2, chain=True)
            signal.alarm(seconds)
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        pytest.fail(f"a forked child hung for {seconds} seconds; its stack is in the captured output")
    return status


def killed_at(call: int, names: tuple[str, ...]) -> None:
    """From now on, SIGKILL this process at the `call`-th of its calls of `os.<name>`, before it takes effect."""
    count = 0

    def wrap(original: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        return counted

    for name in names:
        setattr(os, name, wrap(getattr(os, name)))
