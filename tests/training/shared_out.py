"""A training in however many processes started it: `python -m tests.training.shared_out FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from nasdistill.data.base import ImageSet, Normalisation
from nasdistill.data.loaders import ImageBatches
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.fit import fit
from nasdistill.training.launch import is_first_process
from nasdistill.training.tasks import Supervised
from tests.training.parts import settings, surroundings, two_layers


def batches(engine: Engine, shared: bool, seed: int) -> ImageBatches:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (48, 1, 2, 2), generator=generator, dtype=torch.uint8)
    labels = pixels.flatten(1)[:, :3].argmax(1)
    normalisation = Normalisation(mean=(0.5,), std=(0.3,))
    rank, processes = (engine.fabric.global_rank, engine.processes) if shared else (0, 1)
    return ImageBatches(
        ImageSet(pixels, labels),
        normalisation,
        16,
        seed=1,
        shuffle=shared,
        balance="loss" if shared else "none",
        rank=rank,
        world_size=processes,
    )


def main(folder: Path) -> None:
    engine = Engine(EngineSettings(accelerator="cpu", precision="32"))
    task = Supervised(two_layers(seed=0 if is_first_process() else 1))  # the first one's weights count
    checkpoints, records = surroundings(folder, every_seconds=0)
    parts = [batches(engine, shared, seed) for shared, seed in ((True, 1), (False, 2), (False, 3))]
    fitted = fit(task, *parts, settings(epochs=3), engine, checkpoints, records)
    if is_first_process():
        save_file(dict(task.network.state_dict()), folder / "weights")
        (folder / "metrics").write_text(json.dumps(fitted.accuracy))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
