"""Who works on a trial: a lease that ends with its holder, whether that is a process or a whole machine."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

from filelock import FileLock, Timeout

from nasdistill.errors import DamagedFile
from nasdistill.recipes.lock import LOCK_MODE
from nasdistill.storage import read_json, write_json

BEAT_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""Without a beat from another machine, after which its trial goes back."""


class Lease:
    """The hold of one worker on a trial, until it is released.

    A kernel's lock alone would do on one machine: it ends with the process that holds it. Not every file system shares
    locks between machines, and a server may keep those of a machine that is gone; so the holder also touches a file,
    and another machine takes a trial where the lock is free and the last touch is long ago. Both times are those of the
    file server.
    """

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self._file = folder / "lease.json"
        self._lock = lock
        self._ended = threading.Event()
        write_json(self._file, {"host": socket.gethostname(), "process": os.getpid()})
        threading.Thread(target=self._beat, daemon=True).start()

    @classmethod
    def take(cls, folder: Path) -> Lease | None:
        """Take the trial of this folder; None where another worker has it."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lease.lock", timeout=0, mode=LOCK_MODE)
        try:
            lock.acquire()
        except Timeout:
            return None
        if _alive_elsewhere(folder / "lease.json"):
            lock.release()
            return None
        return cls(folder, lock)

    def release(self) -> None:
        self._ended.set()
        self._file.unlink(missing_ok=True)
        self._lock.release()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # of a network disk that fails now and then; the next beat may arrive
                os.utime(self._file)


def _alive_elsewhere(file: Path) -> bool:
    """Whether another machine noted its hold, and did so lately."""
    try:
        host, touched = read_json(file)["host"], file.stat().st_mtime
    except (OSError, DamagedFile, KeyError, TypeError):
        return False
    now = file.with_name("now")
    now.touch()
    return host != socket.gethostname() and now.stat().st_mtime - touched < PATIENCE_SECONDS
