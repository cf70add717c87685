"""Curves, images and histograms for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdistill.storage import json_text
from nasdistill.training.loggers import LOGGERS, Log, Logger

if TYPE_CHECKING:
    import torch

    from nasdistill.artifacts import Artifact


@LOGGERS.register("tensorboard")
class TensorBoard(Logger):
    """Scalars, images, histograms, and config and artifact as texts, a folder a stage, for `tensorboard --logdir`."""

    def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
        events = Events(place, step)
        if config:
            events.text("config", config, step)
        return events


class Events(Log):
    """TensorBoard's event file in a folder: what earlier ones there tell of the steps before `step` goes into it."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        earlier = sorted(folder.glob("events.out.tfevents.*"))
        self.writer = SummaryWriter(str(folder), purge_step=step)
        self._join(earlier, step)

    def _join(self, earlier: Sequence[Path], step: int) -> None:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event

        into = self.writer.file_writer
        assert into is not None
        known: set[bytes] = set()  # a kill between joining and removing leaves some twice
        read = []
        for path in earlier:
            events = list(RawEventFileLoader(str(path)).Load())  # up to what a kill cut off
            read += [path] if events else []
            for data in events:
                event = Event.FromString(data)
                if event.summary.value and event.step < step and data not in known:
                    known.add(data)
                    into.event_writer.add_event(event)
        self.writer.flush()
        for path in read:
            path.unlink()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)

    def images(self, tag: str, pixels: torch.Tensor, step: int) -> None:
        from nasdistill.training.pictures import grid

        self.writer.add_image(tag, grid(pixels), step)

    def histogram(self, tag: str, counts: Sequence[int], step: int) -> None:
        numbered = list(enumerate(counts))
        self.writer.add_histogram_raw(
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

    def artifact(self, artifact: Artifact, step: int) -> None:
        self.text("artifact", artifact.manifest.model_dump(include={"metrics", "cost", "files"}), step)

    def text(self, tag: str, values: Mapping[str, Any], step: int) -> None:
        """Plain data, for TensorBoard's page of texts."""
        self.writer.add_text(tag, f"```json\n{json_text(values)}```", step)

    def close(self) -> None:
        self.writer.close()
