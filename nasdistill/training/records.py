"""What long work tells while it runs: numbers and pictures for loggers, and a progress bar or plain lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdistill.errors import written_at
from nasdistill.training.launch import is_first_process
from nasdistill.training.loggers import Log, Logger
from nasdistill.training.loggers.tensorboard import TensorBoard
from nasdistill.words import duration

if TYPE_CHECKING:
    import torch

    from nasdistill.artifacts import Artifact

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0
KEY = ".key"
"""Ends the name of the file beside a stage's logs that tells whose they are."""

Listener = Callable[[Mapping[str, float], int], None]
"""Is called with scalars by tag, and the step that they are of."""


class Progress:
    """Counts steps towards a total; made by `Records.progress`."""

    def __init__(self, title: str, total: int, done: int, advance: object = None, unit: str = "step") -> None:
        self.title = title
        self.unit = unit
        self.total = total
        self.done = done
        self._advance = advance
        self._started = self._told = time.monotonic()
        self._first = done

    def step(self, note: str = "") -> None:
        """One more step is done; `note` is shown beside the bar, e.g. the loss."""
        self.done += 1
        if callable(self._advance):
            self._advance(self.done, note)
            return
        now = time.monotonic()
        if now - self._told >= SECONDS_BETWEEN_LINES or self.done == self.total:
            self._told = now
            each = max(now - self._started, 1e-9) / (self.done - self._first)
            pace = f"{1 / each:.1f} {self.unit}s/s" if each < 1 else f"{each:.1f} s a {self.unit}"
            left = f"{duration(each * (self.total - self.done))} left" + (f", {note}" if note else "")
            log.info("%s: %d/%d, %s, %s", self.title, self.done, self.total, pace, left)


class Records:
    """The record of one stage: numbers and pictures go to loggers, steps to the terminal.

    Of several processes that train together the first one alone records. A logger that raises is left out from there
    on, with a warning.

    Args:
        folder: what loggers get as the stage's own place; without one they are told nothing.
        quiet: no bar, plain lines in the log only; by default that of a log which does not show these lines either.
        listen: is told all scalars too.
        loggers: TensorBoard by default.
        config: what loggers get as the stage's, see `Logger.open`.
    """

    def __init__(
        self,
        folder: Path | None = None,
        title: str = "training",
        quiet: bool | None = None,
        listen: Listener | None = None,
        loggers: Iterable[Logger] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.title = title
        self.quiet = quiet
        self.listen = listen
        self.writes = is_first_process()
        self._loggers: list[Logger] = [TensorBoard()] if loggers is None else list(loggers)
        self._logs: dict[int, Log] = {}
        self._parts: list[Records] = []
        self._config = dict(config or {})
        self._step = 0
        self._noted = False

    def part(self, name: str) -> Records:
        """The record of one of several trainings that the stage is made of, e.g. `trial 3`."""
        folder = None if self.folder is None else self.folder / name.replace(" ", "-")
        part = Records(folder, f"{self.title} {name}", self.quiet, config={**self._config, "part": name})
        part._loggers = self._loggers  # the very list, so that one that fails is left out of all parts
        self._parts.append(part)
        return part

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Tell `{tag: value}` at `step`."""
        self._tell(step, lambda log: log.scalars(values, step))
        if self.writes and self.listen is not None:
            self.listen(values, step)

    def images(self, tag: str, pixels: torch.Tensor, step: int) -> None:
        """Tell images, uint8, [N, C, H, W], at `step`."""
        self._tell(step, lambda log: log.images(tag, pixels, step))

    def histogram(self, tag: str, counts: Sequence[int], step: int) -> None:
        """Tell how often each of the numbers 0, 1, ..., e.g. of classes, was seen, at `step`."""
        self._tell(step, lambda log: log.histogram(tag, counts, step))

    def artifact(self, artifact: Artifact) -> None:
        """Tell what the stage wrote, once it is done."""
        wanted = [each for each in self._loggers if id(each) in self._logs or each.logs_all_stages]
        self._tell(self._step, lambda log: log.artifact(artifact, self._step), wanted)

    def _tell(self, step: int, tell: Callable[[Log], None], loggers: Sequence[Logger] | None = None) -> None:
        """Tell these loggers, or all; each begins at the first step that it is told of."""
        if not self.writes or self.folder is None:
            return
        self._step = step
        for logger in list(self._loggers if loggers is None else loggers):
            with self._leaving_out(logger):
                if id(logger) not in self._logs:
                    self._logs[id(logger)] = logger.open(
                        self.folder, 0 if self._of_another_key() else step, self._config
                    )
                tell(self._logs[id(logger)])
        self._note_key()

    @property
    def _note(self) -> Path:
        return Path(f"{self.folder}{KEY}")

    def _of_another_key(self) -> bool:
        """Whether earlier logs are of the stage with other options, whose steps need not be replaced one by one."""
        known = "key" in self._config and self._note.is_file()
        return known and self._note.read_text("utf-8") != self._config["key"]

    def _note_key(self) -> None:
        """Once all logs are open, so that after a kill on the way they begin anew once more."""
        if "key" in self._config and self._logs and not self._noted:
            self._noted = True
            with suppress(OSError):  # a kill in its middle only lets the logs begin anew, which hold one step
                self._note.parent.mkdir(parents=True, exist_ok=True)
                self._note.write_text(self._config["key"], "utf-8")

    def close(self) -> None:
        """Close the logs of the stage and of its parts."""
        for part in self._parts:
            part.close()
        for logger in list(self._loggers):
            with self._leaving_out(logger):
                if id(logger) in self._logs:
                    self._logs.pop(id(logger)).close()

    @contextmanager
    def _leaving_out(self, logger: Logger) -> Iterator[None]:
        """Whatever a logger fails by does not end the work that it tells of."""
        try:
            yield
        except Exception as error:
            self._loggers.remove(logger)
            who = f"{logger.registered_name!r} ({written_at(type(logger))})"
            log.warning("the logger %s is left out from here on: %s: %s", who, type(error).__name__, error)

    @contextmanager
    def progress(self, total: int, done: int = 0, unit: str = "step") -> Iterator[Progress]:
        """A progress bar with rate and time left on a terminal, plain lines elsewhere.

        Args:
            total: steps in all.
            done: steps done before, when a loop resumes.
            unit: what a step is.
        """
        if not self.writes:
            yield Progress(self.title, total, done, lambda _at, _note: None)
            return
        quiet = not log.isEnabledFor(logging.INFO) if self.quiet is None else self.quiet
        if quiet or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
            yield Progress(self.title, total, done, unit=unit)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(self.title, total=total, completed=done, note="")
            yield Progress(self.title, total, done, lambda at, note: bar.update(task, completed=at, note=note))
