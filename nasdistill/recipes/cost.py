"""What a stage cost: time over all its attempts, and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

from nasdistill.errors import DamagedFile
from nasdistill.readings import reading
from nasdistill.storage import files_below, read_sealed, write_sealed


class Meter:
    """Measures from its making on; attempts that were killed before count by the time of their last sign of life.

    Args:
        path: a file in the stage's work folder that tells when each attempt began.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.earlier = self._earlier()
        self._started = time.monotonic()
        write_sealed(path, {"began": time.time(), "earlier": self.earlier})
        # what cannot be reset would tell the peak of what came before
        self._knows_peak = reading("peak memory", _reset_peak) is not None

    def _earlier(self) -> float:
        try:
            told = read_sealed(self.path)
            lived = max(file.stat().st_mtime for file in files_below(self.path.parent)) - told["began"]
            return float(told["earlier"] + max(lived, 0.0))
        except (DamagedFile, OSError, LookupError, TypeError, ValueError):  # none yet, or none that can be read
            return 0.0

    def read(self) -> dict[str, Any]:
        """Seconds of all attempts together, and the peak of memory in bytes since this one began, if it is known."""
        peak = reading("peak memory", _peak) if self._knows_peak else None
        return {"seconds": self.earlier + time.monotonic() - self._started, "peak_memory_bytes": peak}


def _reset_peak() -> bool:
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    return True


def _peak() -> int:
    """The accelerator's peak where one was computed on, else the process's resident peak."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and (peak := int(torch.cuda.max_memory_allocated())):
        return peak
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
