"""What long work tells while it runs: TensorBoard scalars, and a progress bar or plain lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nasdistill.training.engine import is_first_process
from nasdistill.training.waves import traced
from nasdistill.words import duration

if TYPE_CHECKING:
    import torch
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0

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
    """The record of one stage: scalars go to TensorBoard under `folder`, if there is one, steps to the terminal.

    Of several processes that train together the first one alone records.

    Args:
        quiet: no bar, plain lines in the log only; by default that of a log which does not show these lines either.
        listen: is told all scalars too.
    """

    def __init__(
        self,
        folder: Path | None = None,
        title: str = "training",
        quiet: bool | None = None,
        listen: Listener | None = None,
    ) -> None:
        self.folder = folder
        self.title = title
        self.quiet = quiet
        self.listen = listen
        self.writes = is_first_process()
        self._logs = self.writes and folder is not None
        self._writer: SummaryWriter | None = None

    def part(self, name: str) -> Records:
        """The record of one of several trainings that the stage is made of, e.g. `trial 3`."""
        folder = None if self.folder is None else self.folder / name.replace(" ", "-")
        return Records(folder, f"{self.title} {name}", self.quiet)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write `{tag: value}` at `step`."""
        if self._logs:
            writer = self._writer_at(step)
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)
        if self.writes and self.listen is not None:
            self.listen(values, step)

    def images(self, tag: str, pixels: torch.Tensor, step: int) -> None:
        """Write a grid of images, uint8, [N, C, H, W], at `step`; those of one row as waves.

        Neither grey nor of three colours, the first channel is shown.
        """
        if self._logs:
            import torch
            from torchvision.utils import make_grid

            if pixels.shape[2] == 1:
                pixels = torch.from_numpy(traced(pixels.numpy()))
            shown = pixels if pixels.shape[1] == 3 else pixels[:, :1]
            self._writer_at(step).add_image(tag, make_grid(shown), step)

    def histogram(self, tag: str, counts: Sequence[int], step: int) -> None:
        """Write how often each of the numbers 0, 1, ..., e.g. of classes, was seen, at `step`."""
        if self._logs:
            numbered = list(enumerate(counts))
            self._writer_at(step).add_histogram_raw(
                tag,
                min=0,
                max=len(counts) - 1,
                num=sum(counts),
                sum=sum(number * count for number, count in numbered),
                sum_squares=sum(number**2 * count for number, count in numbered),
                bucket_limits=[number + 0.5 for number, _ in numbered],
                bucket_counts=list(counts),
                global_step=step,
            )

    def _writer_at(self, step: int) -> SummaryWriter:
        """The writer; where a run goes on, what TensorBoard has from `step` on is replaced."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        return self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @contextmanager
    def progress(self, total: int, done: int = 0, what: str = "", unit: str = "step") -> Iterator[Progress]:
        """A progress bar with rate and time left on a terminal, plain lines elsewhere.

        Args:
            total: steps in all.
            done: steps done before, when a loop resumes.
            unit: what a step is.
        """
        title = f"{self.title} {what}".strip()
        if not self.writes:
            yield Progress(title, total, done, lambda _at, _note: None)
            return
        quiet = not log.isEnabledFor(logging.INFO) if self.quiet is None else self.quiet
        if quiet or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
            yield Progress(title, total, done, unit=unit)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=total, completed=done, note="")
            yield Progress(title, total, done, lambda at, note: bar.update(task, completed=at, note=note))
