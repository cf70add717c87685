"""Checkpoints inside a stage: what a loop saves so that a killed run ends with the same bits as an unbroken one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdistill.errors import DamagedFile, Interrupted
from nasdistill.interrupts import requested_stop
from nasdistill.storage import load_state, save_state, sync_folder
from nasdistill.training.launch import is_first_process
from nasdistill.training.processes import all_reduce_max, barrier

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
KEPT = 2


class Checkpoints:
    """The checkpoints of one loop in a folder of their own; without a folder nothing is saved.

    A loop calls `load` once before it starts and `step` after every step, with a function that captures all that
    decides the rest of the loop: weights, optimiser, position, random state, history. Of several processes that
    train together all load, all capture, and the first one saves; a stop that one was asked for is one of all.

    Args:
        begin: the state of another loop that this one goes on from, until it has saved one of its own.
    """

    def __init__(
        self, folder: Path | None = None, every_seconds: float = 30.0, begin: dict[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.every_seconds = every_seconds
        self.begin = begin
        self.writes = folder is not None and is_first_process()
        self._saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that is what was written, or else what the loop begins with.

        Damaged ones are named in a warning and dropped.
        """
        for path in reversed(self._states()):
            try:
                return load_state(path, expected_sha256=path.stem.split("-")[1])
            except DamagedFile as error:
                log.warning("%s; going on from the one before", error)
                if self.writes:
                    path.unlink()
        return self.begin

    def step(self, number: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        """Save if it is time to or if a stop was asked for.

        Args:
            number: steps done so far; never goes back.
            capture: called only if the state is needed.

        Raises:
            Interrupted: a stop was asked for; the state is on disk, if there is a folder.
        """
        due = self.writes and time.monotonic() - self._saved_at >= self.every_seconds
        due_to_any, stop = all_reduce_max(int(due), requested_stop() or 0)
        if due_to_any or stop:
            state = capture()
            if self.writes:
                self.save(number, state)
        if stop:
            barrier()  # a launcher ends the others as soon as one has left
            raise Interrupted(stop)

    def save(self, number: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint and drop all but the newest two."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        incoming = self.folder / "incoming"
        digest = save_state(incoming, state)
        incoming.replace(self.folder / f"{number:012d}-{digest}.safetensors")
        sync_folder(self.folder)
        for old in self._states()[:-KEPT]:
            old.unlink()
        self._saved_at = time.monotonic()

    @property
    def newest(self) -> Path | None:
        """The file of the last checkpoint."""
        return self._states()[-1] if self._states() else None

    def _states(self) -> list[Path]:
        return sorted(self.folder.glob("*-*.safetensors")) if self.folder is not None else []


class PartOfCheckpoints(Checkpoints):
    """The checkpoints of the running loop of several, which are part of those of the whole.

    Args:
        whole: of all loops.
        first: number of this loop's first step among those of all.
        saved: what this loop goes on from, if anything.
        around: makes the state of the whole of this loop's.
    """

    def __init__(
        self,
        whole: Checkpoints,
        first: int,
        saved: dict[str, Any] | None,
        around: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    ) -> None:
        super().__init__(whole.folder, whole.every_seconds)
        self._whole, self._first, self._saved, self._around = whole, first, saved, around

    def load(self) -> dict[str, Any] | None:
        return self._saved

    def step(self, number: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        self._whole.step(self._first + number, lambda: self._around(capture()))

    def save(self, number: int, state: Mapping[str, Any]) -> None:
        self._whole.save(self._first + number, self._around(state))


def random_state() -> dict[str, torch.Tensor]:
    """The state of torch's global generators, those of the accelerators included."""
    import torch

    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    """Put back what `random_state` returned."""
    import torch

    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state in the memory layout of its parameters, which fused updates take for granted."""
    import torch

    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
