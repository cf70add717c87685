"""Augmentations beside the training step that they feed, in one run.

    python -m benchmarks.augmentation --threads 2

A ratio of 10 means that augmenting a batch takes a tenth of the step, which is one of WRN-16-1 by our engine.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn import functional

from benchmarks.common import Comparison, Turn, arguments, compare, offer_processor_time, show, timed
from benchmarks.images import CLASSES
from nasdistill.data.augmentations import AUGMENTATIONS
from nasdistill.models.base import MODELS
from nasdistill.training.engine import Engine, EngineSettings

BATCH = 128
MODEL = "wrn-16-1"
SIZES = (32, 64)
NAMES = ("flip", "crop", "rotation", "random-resized-crop", "color-jitter", "blur", "trivial-augment", "rand-augment")


def training(size: int, engine: Engine, options: argparse.Namespace) -> Turn:
    """Steps on one batch that lies ready."""
    network = engine.place(MODELS.parse(MODEL).build((3, size, size), CLASSES)).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    images = torch.randn(BATCH, 3, size, size, device=engine.device).contiguous(memory_format=engine.memory_format)
    labels = torch.randint(0, CLASSES, (BATCH,), device=engine.device)

    def step() -> None:
        optimizer.zero_grad()
        with engine.autocast():
            loss = functional.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()

    return timed(step, options.clock)


def augmenting(name: str, size: int, engine: Engine, options: argparse.Namespace) -> Turn:
    """Draws for a batch and applies them, on bytes where the augmentation takes these."""
    augmentation = AUGMENTATIONS.parse(name)
    images = torch.randint(256, (BATCH, 3, size, size), dtype=torch.uint8, device=engine.device)
    images = images.float() if augmentation.normalised else images
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        augmentation.apply(images, augmentation.sample(BATCH, (size, size), generator))

    return timed(step, options.clock)


def main() -> None:
    parser = arguments("augmentations beside a training step")
    offer_processor_time(parser)
    parser.add_argument("--names", nargs="+", default=list(NAMES), help="augmentations, by name")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="sides of the images")
    options = parser.parse_args()
    engine = Engine(EngineSettings(accelerator="cpu"))
    comparisons: list[Comparison] = []
    for size in options.sizes:
        step = f"a step of {MODEL}"
        rivals = {step: training(size, engine, options)}
        rivals |= {name: augmenting(name, size, engine, options) for name in options.names}
        title = f"{BATCH} images of 3x{size}x{size}"
        comparisons.append(compare(title, rivals, work=BATCH, baseline=step, options=options))
    show(comparisons, options.json)


if __name__ == "__main__":
    main()
