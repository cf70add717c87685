"""Does speed cost accuracy? One network trained on Fashion-MNIST by torch's layers and by ours, in fp32 and in bf16.

    python -m benchmarks.accuracy --root FOLDER

The rivals of a seed start from equal weights and see equal batches; all are scored on the test images in fp32.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import layers_by_torch, of_accuracies
from benchmarks.training import BATCH, trained
from nasdistill.data.base import Data
from nasdistill.data.loaders import evaluation_batches, training_batches
from nasdistill.data.preparation import load
from nasdistill.models.base import MODELS
from nasdistill.registry import registry
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.metrics import evaluate
from nasdistill.training.settings import TrainingSettings
from nasdistill.training.tasks import Supervised

BASELINE = "torch's layers, fp32"


def rivals() -> dict[str, tuple[str, AbstractContextManager[None]]]:
    """Name to precision and surroundings."""
    return {
        BASELINE: ("32", layers_by_torch()),
        "nasdistill, fp32": ("32", contextlib.nullcontext()),
        "nasdistill, bf16": ("bf16", contextlib.nullcontext()),
    }


def accuracy(options: argparse.Namespace) -> Table:
    found: dict[str, dict[int, float]] = {name: {} for name in rivals()}
    spec = {"name": "fashion-mnist", "root": str(options.root), "limit": options.images}
    for seed in range(options.seeds):
        data: Data = load(registry("datasets").parse(spec), seed)
        few = data.validation.subset(torch.arange(10))  # nothing is selected by them
        torch.manual_seed(seed)
        start = MODELS.parse(options.model).build(data.shape, len(data.classes))
        for name, (precision, surroundings) in rivals().items():
            engine = Engine(EngineSettings.model_validate({"precision": precision}))
            task = Supervised(copy.deepcopy(start))
            settings = TrainingSettings(epochs=options.epochs, batch_size=BATCH, evaluate_every=options.epochs)
            with surroundings:
                batches = training_batches(data, BATCH, seed, engine)
                fitted = trained(task, batches, replace(data, validation=few, test=few), settings, engine)
            test = evaluation_batches(data.test, data, engine)
            found[name][seed] = evaluate(task.network, test, engine, full_precision=True).accuracy
            rate = fitted.cost["samples_per_second"]
            print(f"seed {seed}, {name}: {found[name][seed]:.2f} %, {rate:.0f} images/s", file=sys.stderr)
    title = f"{options.model}, {options.images} images of Fashion-MNIST, {options.epochs} epochs"
    return of_accuracies(title, found, BASELINE)


def main() -> None:
    parser = argparse.ArgumentParser(description="accuracy by torch's layers and by ours")
    parser.add_argument("--root", type=Path, required=True, help="folder of Fashion-MNIST")
    parser.add_argument("--model", default="darts-v2-8-5", help="who learns (default darts-v2-8-5)")
    parser.add_argument("--images", type=int, default=6000, help="images, of which a tenth is held out (default 6000)")
    parser.add_argument("--epochs", type=int, default=4, help="default 4")
    parser.add_argument("--seeds", type=int, default=3, help="default 3")
    Console().print(accuracy(parser.parse_args()))


if __name__ == "__main__":
    main()
