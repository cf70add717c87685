"""Networks and batches that train in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from nasdistill.registry import build
from nasdistill.training.batches import Batch
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.records import Records
from nasdistill.training.settings import TrainingSettings


class FixedBatches:
    """The same batches in each epoch, in the order of the images."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, batch_size: int) -> None:
        self.labels = labels
        indices = torch.arange(len(labels))
        parts = (whole.split(batch_size) for whole in (images, labels, indices))
        self._batches = [Batch(*part) for part in zip(*parts, strict=True)]

    @property
    def samples(self) -> int:
        return len(self.labels)

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, number: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        return iter(self._batches[start:stop])


def blobs(count: int, classes: int = 3, seed: int = 0, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 1x2x2 around one corner per class, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = 2 * torch.eye(classes, 4)
    noise = torch.randn(count, 4, generator=generator)
    return (centres[labels] + spread * noise).view(count, 1, 2, 2), labels


def two_layers(seed: int = 0, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, classes))


def engine(precision: str = "32", channels_last: bool = True) -> Engine:
    return Engine(build(EngineSettings, {"accelerator": "cpu", "precision": precision, "channels_last": channels_last}))


def settings(**options: object) -> TrainingSettings:
    return build(TrainingSettings, options)


def surroundings(folder: Path, every_seconds: float = 1e9) -> tuple[Checkpoints, Records]:
    return Checkpoints(folder / "checkpoints", every_seconds), Records(folder / "tensorboard", "test", quiet=True)
