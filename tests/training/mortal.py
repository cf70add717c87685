"""A training that dies where it is told to; `python -m tests.training.mortal FOLDER` is one that does not.

It has all that must survive: shuffled and augmented images, dropout, batch norm in channels-last convolutions, an
average of the weights, momentum, a warm-up and a schedule, bf16, images that an epoch shows again, an unfinished last
batch.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from nasdistill.data.base import ImageSet, Normalisation
from nasdistill.data.loaders import ImageBatches
from nasdistill.interrupts import polite_stops
from nasdistill.registry import build, registry
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.fit import fit
from nasdistill.training.records import Records
from nasdistill.training.settings import TrainingSettings
from nasdistill.training.tasks import Supervised

EPOCHS, STEPS = 3, 5
LAST = EPOCHS * (STEPS + 1)
"""Every step and every evaluation counts."""


class MortalCheckpoints(Checkpoints):
    """Saves every third step; sends itself a signal at one."""

    def __init__(self, folder: Path, step: int, signal_number: int) -> None:
        super().__init__(folder)
        self.dies_at = step
        self.signal_number = signal_number

    def step(self, number: int, capture: Callable[[], Mapping[str, Any]]) -> None:
        if number == self.dies_at:
            os.kill(os.getpid(), self.signal_number)
        self.every_seconds = 0 if number % 3 == 0 or number == LAST else math.inf
        super().step(number, capture)


def images(count: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.randint(0, 4, (count,), generator=generator))


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Dropout(0.3)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(32, 4)),
    )


def main(folder: Path, step: int, signal_number: int) -> None:
    engine = Engine(EngineSettings(accelerator="cpu", precision="bf16"))
    options = {"epochs": EPOCHS, "batch_size": 16, "ema": 0.9, "warmup": 0.5, "clip": 1.0, "label_smoothing": 0.1}
    settings = build(TrainingSettings, options)
    augmentations = [registry("augmentations").parse(name) for name in ("crop", "flip")]
    normalisation = Normalisation(mean=(0.5, 0.4, 0.6), std=(0.2, 0.3, 0.25))
    common = {"memory_format": engine.memory_format, "seed": 5}
    train = ImageBatches(
        images(40, 1), normalisation, 16, shuffle=True, augmentations=augmentations, epoch_images=75, **common
    )
    assert len(train) == STEPS
    others = [ImageBatches(images(40, seed), normalisation, 16, shuffle=False, **common) for seed in (2, 3)]
    torch.manual_seed(0)
    task = Supervised(network())
    checkpoints = MortalCheckpoints(folder / "checkpoints", step, signal_number)
    with polite_stops():
        fit(task, train, *others, settings, engine, checkpoints, Records(folder / "tensorboard", "mortal", quiet=True))
    weights = {name: value.contiguous() for name, value in task.network.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), step=-1, signal_number=0)
