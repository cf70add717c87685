"""The command `zero-shot` in however many processes started it: `python -m tests.zero_shot.shared_out FOLDER`.

FOLDER/teacher is the artifact of its teacher; each process writes down its networks as they are at the end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from nasdistill.cli.main import main as command
from nasdistill.zero_shot import transfer as module
from nasdistill.zero_shot.generation import Generation

OPTIONS = {
    "student": "wrn-10-1",
    "pseudo-batches": 7,
    "batch-size": 16,
    "student-steps": 2,
    "watch-every": 2,
    "evaluate-every": 3,
    "pictures": 1,
    "generator": "{name: convolutional, latents: 8, channels: 4}",
    "collapse-below": 0.999,
    "on-collapse": "restart",
    "generator-losses": ["adversarial", "{name: batch-norm, momentum: 0.5}", "{name: contrastive, memory: 40}"],
    "adapt": "fomaml",
    "bank": 32,
    "augmentations": "flip",
    "data": "digits",
    "accelerator": "cpu",
    "precision": "32",
}


def main(folder: Path) -> int:
    transfer, forward = module.transfer, Generation.forward
    seen: list[torch.Tensor] = []

    def watched(self: Generation, latents: torch.Tensor, targets: torch.Tensor) -> Any:
        seen.append(latents.clone())
        return forward(self, latents, targets)

    def recorded(task: Any, generation: Any, *rest: Any) -> Any:
        course = transfer(task, generation, *rest)
        weights = {**task.network.state_dict(), **generation.state_dict(), "latents": torch.stack(seen)}
        contiguous = {name: value.contiguous() for name, value in weights.items()}
        save_file(contiguous, folder / f"rank-{os.environ.get('RANK', 0)}")
        return course

    Generation.forward = watched  # type: ignore[method-assign]
    module.transfer = recorded
    listed = {name: value if isinstance(value, list) else [value] for name, value in OPTIONS.items()}
    options = [word for name, values in listed.items() for each in values for word in (f"--{name}", str(each))]
    places = ["--teacher", str(folder / "teacher"), "--out", str(folder / "out")]
    return command(["zero-shot", *places, *options, "--quiet"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
