"""The processes of `--devices 2` on one machine: started by the first one, and none outlives another's death."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from nasdistill.errors import Interrupted, ProcessLost, SpecError, UserError
from nasdistill.interrupts import STOPS, leave_if_requested, requested_stop, stops_are_polite

POLL_SECONDS = 0.2
GRACE = 10.0
"""Seconds in which a process whose company is gone may leave by itself, as it does where it talks to it."""
LOST = 1
"""The exit status of a process whose company is gone."""

THE_FIRST = "the first process is gone"

_STARTED_BY = "NASDISTILL_STARTED_BY"
_followers: Followers | None = None


def process_number() -> int:
    """Which of the processes that compute together this one is, from 0: whoever starts them numbers them."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def was_started_by_the_first() -> bool:
    """Whether this is one of several processes that the first of them started, with its own command."""
    return _STARTED_BY in os.environ


def is_first_process() -> bool:
    """Whether this process is the one of several that writes files."""
    return process_number() == 0


class Followers:
    """Processes that run this very command again, numbered from 1 on, with this one as number 0.

    One that dies is noticed here; the first process then leaves, or is ended where it waits for the dead.
    """

    def __init__(self, devices: int) -> None:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(_free_port()))
        os.environ |= {"NODE_RANK": "0", "LOCAL_RANK": "0"}
        os.environ |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(devices))
        self._processes = [
            subprocess.Popen(  # noqa: S603 - the command that the user typed
                [sys.executable, *sys.orig_argv[1:]],
                env={**os.environ, "LOCAL_RANK": str(rank), _STARTED_BY: str(os.getpid())},
                stdin=subprocess.DEVNULL,
            )
            for rank in range(1, devices)
        ]
        self.lost: str | None = None
        atexit.register(self.end)
        threading.Thread(target=self._watch, name="followers", daemon=True).start()

    def _watch(self) -> None:
        while True:
            for rank, process in enumerate(self._processes, 1):
                if status := process.poll():
                    self._miss(rank, status)
                    return
            time.sleep(POLL_SECONDS)

    def _miss(self, rank: int, status: int) -> None:
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        self.lost = f"process {rank} of {len(self._processes) + 1} ended {how}"
        stop = -status if status < 0 else status - 128
        if stop in STOPS and stops_are_polite() and requested_stop() is None:
            os.kill(os.getpid(), stop)  # it was asked to stop, so all are
        time.sleep(GRACE)
        _leave(self.lost)

    def end(self) -> None:
        """See the others off; they hold nothing that is not on disk."""
        for process in self._processes:
            process.terminate()
        until = time.monotonic() + GRACE
        for process in self._processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def launch(devices: int) -> None:
    """Start the processes of a run on several devices, unless this is one that was started so.

    Raises:
        SpecError: this process is a notebook or reads its program from a terminal, which nobody can start again.
    """
    global _followers
    if devices > 1 and _followers is None and _STARTED_BY not in os.environ:
        program = getattr(sys.modules["__main__"], "__file__", "")  # "<stdin>" where it is read from there
        if not os.path.isfile(program) and "-c" not in sys.orig_argv:
            problem = f"{devices} devices are {devices} processes that run one program, and a notebook is none"
            raise SpecError(f"{problem}; use 1 here, or the command `nasdistill run`", ("devices",))
        _followers = Followers(devices)


@contextlib.contextmanager
def naming_the_lost() -> Iterator[None]:
    """Whatever breaks in this block because another process is gone becomes a sentence, or this one's polite stop.

    Raises:
        ProcessLost: in place of what the call to the others raised.
        Interrupted: the other was asked to stop, and so all are.
    """
    if first := os.environ.get(_STARTED_BY):
        threading.Thread(target=_watch_the_first, args=(int(first),), name="first process", daemon=True).start()
    try:
        yield
    except (UserError, Interrupted):
        raise
    except Exception as error:
        if "LOCAL_RANK" not in os.environ:
            raise
        time.sleep(2 * POLL_SECONDS)  # so that a death is noticed
        if who := _lost():
            leave_if_requested()
        elif not (who := _said_by(error)):
            raise
        raise ProcessLost(_told(who)) from error


def _lost() -> str | None:
    """Which process is known to be gone, in words."""
    if (first := os.environ.get(_STARTED_BY)) is not None:
        return None if os.getppid() == int(first) else THE_FIRST
    return None if _followers is None else _followers.lost


def _said_by(error: Exception) -> str | None:
    """As `_lost`, where a launcher watches over the processes: what their connection says, which has no type."""
    import torch

    broken = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
    return "another of the processes that compute together is gone" if broken else None


def _watch_the_first(process: int) -> None:
    while os.getppid() == process:
        time.sleep(POLL_SECONDS)
    time.sleep(GRACE)
    _leave(THE_FIRST)


def _leave(why: str) -> None:
    """End a process that hangs in a call to the others: no signal handler and no exception would get through."""
    if int(os.environ["LOCAL_RANK"]) <= 1:  # one voice is enough
        print(f"nasdistill: {_told(why)}", file=sys.stderr, flush=True)
    os._exit(LOST)


def _told(why: str) -> str:
    """The sentence for the user."""
    return f"{why}; what is done is saved, and the same command goes on from the last checkpoint"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
