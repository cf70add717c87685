"""Scoring of a network: which batches are fastest, what folding would bring, and what two processes that share them.

    python -m benchmarks.scoring

All of `evaluate`: batches, normalisation, network, metrics. The batch is the project's unless it is told.
"""

from __future__ import annotations

import argparse
import contextlib
import functools

import torch

from benchmarks.common import Comparison, Turn, arguments, compare, show, timed
from benchmarks.images import CLASSES, SHAPE, random_data
from benchmarks.processes import TWO, alone, pair
from nasdistill.data.loaders import SCORED_AT_ONCE, evaluation_batches
from nasdistill.distill.folding import folded
from nasdistill.models.base import MODELS
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.metrics import evaluate

BATCHES = (32, 64, 125, 250, SCORED_AT_ONCE, 1000)


def scorer(model: str, threads: int, batch: int, options: argparse.Namespace, fold: bool = False) -> Turn:
    """Scores all images, or this process's share of them where the surroundings say that it has company."""
    engine = Engine(EngineSettings(accelerator="cpu"))
    torch.set_num_threads(threads)
    network = engine.place(MODELS.parse(model).build(SHAPE, CLASSES))
    if fold:
        network = folded(network, SHAPE)
    data = random_data(options.images)
    batches = evaluation_batches(data.train, data, engine, batch)
    return timed(lambda: evaluate(network, batches, engine))


def by_batch(model: str, options: argparse.Namespace) -> Comparison:
    """One process with one thread."""
    rivals = {f"batch {batch}": scorer(model, 1, batch, options) for batch in BATCHES}
    baseline = f"batch {SCORED_AT_ONCE}"
    rivals[f"{baseline}, batch norms folded"] = scorer(model, 1, SCORED_AT_ONCE, options, fold=True)
    return compare(f"scoring {model}, one thread", rivals, work=options.images, baseline=baseline, options=options)


def by_processes(model: str, options: argparse.Namespace) -> Comparison:
    """A core or two."""
    with contextlib.ExitStack() as all_rivals:
        rivals = all_rivals.enter_context(
            alone(lambda threads: functools.partial(scorer, model, threads, SCORED_AT_ONCE), options)
        )
        rivals[TWO] = all_rivals.enter_context(pair(functools.partial(scorer, model, 1, SCORED_AT_ONCE), options))
        title = f"scoring {model}, batch {SCORED_AT_ONCE}"
        return compare(title, rivals, work=options.images, baseline=next(iter(rivals)), options=options)


def main() -> None:
    parser = arguments("scoring of networks by size of batch and number of processes")
    parser.add_argument("--models", nargs="+", default=["wrn-16-1", "darts-v1-8-10"], help="models to score")
    parser.add_argument("--images", type=int, default=2000, help="images that are scored")
    parser.set_defaults(steps=1, warmup=1)
    options = parser.parse_args()
    show([by(model, options) for model in options.models for by in (by_batch, by_processes)], options.json)


if __name__ == "__main__":
    main()
