"""Curves, images and histograms for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nasdistill.training.loggers import LOGGERS, Log, Logger

if TYPE_CHECKING:
    import torch


@LOGGERS.register("tensorboard")
class TensorBoard(Logger):
    """Scalars, images and histograms, a folder a stage, for `tensorboard --logdir`."""

    def open(self, place: Path, step: int) -> Log:
        return Events(place, step)


class Events(Log):
    """TensorBoard's event files in a folder."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        self.writer = SummaryWriter(str(folder), purge_step=step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)

    def images(self, tag: str, pixels: torch.Tensor, step: int) -> None:
        """A grid; images of one row as waves. Neither grey nor of three colours, the first channel is shown."""
        import torch
        from torchvision.utils import make_grid

        from nasdistill.training.waves import traced

        if pixels.shape[2] == 1:
            pixels = torch.from_numpy(traced(pixels.numpy()))
        shown = pixels if pixels.shape[1] == 3 else pixels[:, :1]
        self.writer.add_image(tag, make_grid(shown), step)

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

    def close(self) -> None:
        self.writer.close()
