"""A pseudo-batch of pixels in however many processes started it: `python -m tests.zero_shot.pixels_apart FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.training.parts import engine
from tests.zero_shot.parts import Loop, loop, network

IMAGES = 4
"""Images on each process."""


def pixels_loop() -> Loop:
    """Three steps on the pixels of one pseudo-batch, the learning rate as it is."""
    return loop(
        network(1),
        network(2),
        generator="pixels",
        losses=["class-prior"],
        objectives=["divergence"],
        pseudo_batches=1,
        batch_size=IMAGES,
        generator_steps=3,
        generator_optimizer={"name": "adam", "lr": 0.05},
        clip=None,
        pictures=0,
    )


def main(folder: Path) -> None:
    rank = engine().fabric.global_rank
    made = pixels_loop()
    seen: list[torch.Tensor] = []
    made.student.register_forward_pre_hook(lambda _module, read: seen.append(read[0].clone()))
    made.run(folder / str(rank))
    save_file({"images": seen[0].contiguous()}, folder / f"images-{rank}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
