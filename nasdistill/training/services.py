"""What loggers that tell a service have in common: which of its runs it is, and what that was told already."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdistill.storage import write_text
from nasdistill.training.loggers import Log, Logger

if TYPE_CHECKING:
    import torch

    from nasdistill.artifacts import Artifact

Config = Mapping[str, Any]


class Memory:
    """In a file beside a stage's logs: the run of a service that they go into, and each step that it was told.

    A service keeps what it was told, so that a stage which goes on after a stop tells later steps alone. A stage with
    another key, or a logger with other options, begins a run of its own.

    Attributes:
        run: the service's name for the run; None until `begin`.
        since: the last step that an earlier process told, -1 if there is none.
    """

    def __init__(self, logger: Logger, place: Path, config: Config) -> None:
        self.path = Path(f"{place}.{logger.registered_name}.txt")
        self._belongs = {"key": config.get("key"), "logger": logger.spec()}
        text = self.path.read_text("utf-8") if self.path.is_file() else ""
        head, *steps = text.splitlines()[: text.count("\n")] or ["{}"]  # a kill may cut the last line off
        found = json.loads(head)
        self.run: str | None = found.pop("run", None)
        self.since = int(steps[-1]) if steps else -1
        if found != self._belongs:
            self.run, self.since = None, -1
        self._last = self.since
        if self.run is not None:
            self.begin(self.run)

    def begin(self, run: str) -> None:
        self.run = run
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({**self._belongs, "run": run}) + f"\n{self.since}\n")

    def is_new(self, step: int) -> bool:
        """Whether the run lacks this step; noted before it is told, so that a kill may lose it but not double it."""
        if step > self._last:
            self._last = step
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{step}\n")
        return step > self.since


class ServiceLog(Log):
    """Base of the logs of Weights & Biases and of libraries with its interface.

    Attributes:
        run: the library's own, set by a subclass.
    """

    run: Any

    def __init__(self, memory: Memory, library: Any) -> None:
        self.memory, self.library = memory, library

    def tell(self, values: Mapping[str, Any], step: int) -> None:
        self.run.log(dict(values), step=step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if self.memory.is_new(step):
            self.tell(values, step)

    def images(self, tag: str, pixels: torch.Tensor, step: int) -> None:
        from nasdistill.training.pictures import grid

        if self.memory.is_new(step):
            self.tell({tag: self.library.Image(grid(pixels).permute(1, 2, 0).numpy())}, step)

    def histogram(self, tag: str, counts: Sequence[int], step: int) -> None:
        import numpy as np

        if self.memory.is_new(step):
            bars = np.array(counts), np.arange(len(counts) + 1) - 0.5
            self.tell({tag: self.library.Histogram(np_histogram=bars)}, step)


def name_of(place: Path, config: Config) -> str:
    """Of a stage's run: the stage, its seed where there are several, and the part."""
    return f"{place.parent.name} {place.name}" if "part" in config else place.name


def flat(values: Mapping[str, Any], *above: str) -> Iterator[tuple[str, Any]]:
    """Nested plain data as names with dots and values; lists stay whole."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, *above, name)
        else:
            yield ".".join((*above, name)), value


def final_numbers(artifact: Artifact) -> dict[str, float]:
    """All numbers among an artifact's metrics and its cost, by names with dots."""
    told = {"final": artifact.manifest.metrics, "cost": artifact.manifest.cost}
    return {name: value for name, value in flat(told) if isinstance(value, int | float) and not isinstance(value, bool)}


def hashes(artifact: Artifact) -> dict[str, str]:
    """Of an artifact's content, and of each of its files."""
    return {"content": artifact.content, **artifact.manifest.files}
