"""One run at a time in a folder, one maker of an artifact: kernel locks, which die with their holders."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nasdistill.errors import DamagedFile, UserError
from nasdistill.interrupts import leave_if_requested
from nasdistill.storage import read_json, write_json

log = logging.getLogger(__name__)

LOCK = "run.lock"
HOLDER = "run.holder.json"
LOCK_MODE = 0o666
"""Less the umask: users who may write in a folder may hold its locks, too."""


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process.

    Raises:
        UserError: another process holds it, and the sentence says which; or nothing can be written there.
    """
    holder = folder / HOLDER
    lock = FileLock(folder / LOCK, mode=LOCK_MODE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:  # itself an OSError
        raise UserError(
            f"{folder} is in use by {_told(holder)}; wait for it, or choose another folder with --out"
        ) from None
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise UserError(f"{folder} cannot be the folder of a run ({reason}); choose another with --out") from None
    try:
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        write_json(holder, {"process": os.getpid(), "host": platform.node(), "since": since})
        yield
    finally:
        lock.release()


@contextmanager
def stage_lock(folder: Path, key: str, name: str) -> Iterator[None]:
    """Make the artifact with this key alone; waits as long as another run makes it.

    Runs share artifacts where the folders of both are links to the same place, as the trials of an experiment are.

    Raises:
        Interrupted: a stop was asked for while waiting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{key[:12]}.lock"
    lock = FileLock(place, mode=LOCK_MODE)
    waiting = False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            leave_if_requested()
            if not waiting:
                log.info("%s: another run is at it; waiting for what it makes", name)
            waiting = True
    try:
        yield
        # Whoever waits for a file that is gone finds the artifact made; after an error it must make it itself.
        place.unlink(missing_ok=True)
    finally:
        lock.release()


def _told(holder: Path) -> str:
    """Who holds the lock, as far as it has said so; only a help for people, never a decision."""
    who = holder_in(holder)
    return f"process {who['process']} on {who['host']} since {who['since']}" if who else "another process"


def holder_in(path: Path) -> dict[str, Any] | None:
    """What a process that held the lock wrote down; None where the file is another one."""
    try:
        who = read_json(path)
    except (OSError, DamagedFile):
        return None
    return who if isinstance(who, dict) and who.keys() == {"process", "host", "since"} else None
