"""Two processes beside one, with the same batches: how far their numbers lie apart, and how much faster they are.

    python -m benchmarks.processes

The numbers come from one recipe, run with one process, with two, with two that do not share the statistics of batch
norm, and, as a control, with one process of two threads, which adds the same numbers in another order. Small learning
rates leave a rounding error small; usual ones make it grow, wherever it comes from. The rates are those of `fit` on
images of 32x32, all rivals by turns; each process has a thread of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from benchmarks.common import Turn, apart, arguments, compare, machine, show
from benchmarks.images import CLASSES, SHAPE
from benchmarks.training import BATCH, ours
from nasdistill.models.base import MODELS
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.tasks import Supervised

RECIPE = """\
name: processes
seed: 0
data: {name: digits, limit: 160, augmentations: [{name: crop, padding: 1}, flip]}
engine: {accelerator: cpu, precision: "32"}
stages:
  - name: search
    uses: search
    with: {space: darts-tiny, strategy: {name: darts, batch_size: 32, epochs: 2, lr: 0.001, lr_end: 0.0001}}
  - {name: train, uses: train, with: {model: wrn-10-1, batch_size: 32, epochs: 2, optimizer: {name: sgd, lr: 0.01}}}
  - name: distil
    uses: distill
    with:
      student: wrn-10-1
      teacher: train
      batch_size: 32
      epochs: 2
      optimizer: {name: sgd, lr: 0.01}
      objectives: [kd, {name: attention, beta: 100}]
  - name: zero-shot
    uses: zero-shot
    with:
      student: wrn-10-1
      teacher: train
      pseudo_batches: 8
      batch_size: 32
      student_steps: 2
      watch_every: 4
      optimizer: {name: sgd, lr: 0.001}
      generator_optimizer: {name: sgd, lr: 0.001}
      generator: {name: convolutional, latents: 8, channels: 8}
  - name: born-again
    uses: born-again
    with: {model: wrn-10-1, generations: 1, batch_size: 32, epochs: 2, optimizer: {name: sgd, lr: 0.01}}
"""
USUAL = [
    "stages.search.strategy.lr=0.01",
    "stages.train.optimizer.lr=0.1",
    "stages.distil.optimizer.lr=0.1",
    "stages.zero-shot.optimizer.lr=0.01",
    "stages.zero-shot.generator_optimizer.lr=0.01",
    "stages.born-again.optimizer.lr=0.1",
]
"""Ten times the recipe's learning rates."""
SHOWN = {
    "search": "search",
    "train": "train",
    "distil": "distil",
    "zero-shot": "zero-shot",
    "born-again-1": "born-again",
}
ONE, THREADS, TWO, OWN = "one process", "one process, two threads", "two processes", "two, each its own statistics"
RUNS = {ONE: [], THREADS: [], TWO: ["--devices", "2"], OWN: ["--devices", "2", "engine.sync_batch_norm=false"]}

Difference = tuple[float | None, float]
"""The largest one of weights, where the stage has any, and of losses and architecture weights."""


def differences(overrides: Sequence[str]) -> dict[str, dict[str, Difference]]:
    """By run but the first, by stage: how far it lies from the first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "processes.yaml").write_text(RECIPE)
        for run, options in RUNS.items():
            command = [sys.executable, "-m", "nasdistill", "run", "processes.yaml", "--out", run, "--quiet"]
            environment = {**os.environ, "OMP_NUM_THREADS": "2" if run == THREADS else "1"}
            subprocess.run(
                [*command, *options, *overrides], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
            )
        return {
            run: {
                shown: _difference(folder / ONE / "stages" / stage, folder / run / "stages" / stage)
                for stage, shown in SHOWN.items()
            }
            for run in list(RUNS)[1:]
        }


def _difference(one: Path, other: Path) -> Difference:
    weights = None
    if (one / "weights.safetensors").is_file():
        ours, theirs = (load_file(folder / "weights.safetensors") for folder in (one, other))
        weights = max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)
    curves, others = (json.loads((folder / "history.json").read_text())["curves"] for folder in (one, other))
    counts = ("accuracy", "skips", "answers")
    told = [name for name in curves if not any(word in name for word in counts)]
    pairs = [pair for name in told for pair in zip(curves[name], others[name], strict=True)]
    return weights, max(abs(mine[1] - its[1]) for mine, its in pairs)


def trainer(model: str, threads: int, shared: bool, _options: argparse.Namespace) -> Turn:
    """Training in this process, or in its share of the work where the surroundings say that it has company."""
    engine = Engine(EngineSettings(accelerator="cpu", sync_batch_norm=shared))
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return ours(Supervised(MODELS.parse(model).build(SHAPE, CLASSES)), engine)


@contextlib.contextmanager
def pair(model: str, shared: bool, options: argparse.Namespace) -> Iterator[Turn]:
    """Two processes of one thread each that train together; a turn takes as long as the slower one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    company = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    with contextlib.ExitStack() as both, ThreadPoolExecutor(2) as callers:
        turns = []
        for rank in range(2):
            os.environ.update(company, LOCAL_RANK=str(rank))  # which the process inherits
            turns.append(both.enter_context(apart(functools.partial(trainer, model, 1, shared), options)))
        for name in (*company, "LOCAL_RANK"):
            del os.environ[name]
        yield lambda steps: max(callers.map(lambda turn: turn(steps), turns))


def main() -> None:
    parser = arguments("two processes beside one")
    parser.add_argument("--model", default="wrn-16-1", help="model to train")
    parser.set_defaults(rounds=3)
    options = parser.parse_args()
    apart_by = {"small learning rates": differences([]), "ten times as large": differences(USUAL)}
    with contextlib.ExitStack() as all_rivals:
        model = options.model
        alone = {
            f"{ONE}, {threads} thread{'s' * (threads > 1)}": all_rivals.enter_context(
                apart(functools.partial(trainer, model, threads, True), options)
            )
            for threads in (1, 2)
        }
        together = {run: all_rivals.enter_context(pair(model, run == TWO, options)) for run in (TWO, OWN)}
        rates = compare(
            f"training {model}, batch {BATCH} in all",
            alone | together,
            work=BATCH,
            baseline=next(iter(alone)),
            options=options,
        )
    if options.json:
        print(json.dumps({"machine": machine(), "differences": apart_by, "comparisons": [rates.plain()]}, indent=2))
        return
    for setting, runs in apart_by.items():
        table = Table("", *(f"{run}: {what}" for run in runs for what in ("weights", "losses")))
        table.title, table.title_justify = f"largest difference from {ONE}, {setting}", "left"
        for stage in SHOWN.values():
            table.add_row(stage, *("-" if v is None else f"{v:.1e}" for run in runs.values() for v in run[stage]))
        Console(width=140).print(table)
    show([rates], as_json=False)


if __name__ == "__main__":
    main()
