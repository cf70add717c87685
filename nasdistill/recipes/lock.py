"""One run at a time in a folder: a kernel lock, which dies with its holder, so that no start ever needs an unlock."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from nasdistill.errors import DamagedFile, UserError
from nasdistill.storage import read_json, write_json


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process.

    Raises:
        UserError: another process holds it, and the sentence says which; or nothing can be written there.
    """
    holder = folder / "run.holder.json"
    lock = FileLock(folder / "run.lock")
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
        write_json(holder, {"process": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        lock.release()


def _told(holder: Path) -> str:
    """Who holds the lock, as far as it has said so; only a help for people, never a decision."""
    try:
        who = read_json(holder)
        return f"process {who['process']} on {who['host']} since {who['since']}"
    except (OSError, DamagedFile, KeyError, TypeError):
        return "another process"
