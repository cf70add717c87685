"""Zero-cost proxies beside what cells of NAS-Bench-201 truly score on CIFAR-10: rank correlations, and times.

    python -m benchmarks.proxies --root FOLDER --out scores.jsonl

Cells are drawn by a seed and scored in the benchmark's size (16 channels, 5 cells of each stage) as they are
initialised, on one batch of 64 training images, one thread. A line of JSON a cell goes to `--out`; the same command
goes on after the last of them, and tells the correlations over all that are there. A network without a finite score
ranks last.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau, spearmanr

from nasdistill.data.preparation import load
from nasdistill.data.seeds import derived_seed, generator_for
from nasdistill.models.base import NetworkSpec
from nasdistill.registry import build, registry
from nasdistill.search.proxies import PROXIES
from nasdistill.search.strategies.random import in_random_order
from nasdistill.search.untrained import ProxyOptions
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.truth.nas_bench_201 import lookup

PUBLISHED = {
    "grad-norm": 0.58,
    "snip": 0.58,
    "grasp": 0.48,
    "fisher": 0.36,
    "synflow": 0.74,
    "jacob-cov": 0.73,
    "naswot": 0.78,
}
"""Spearman over all cells: Abdelfattah et al. 2021, table 1; of naswot Mellor et al. 2021."""


def score_cells(options: argparse.Namespace) -> None:
    """Append what is missing of the first `--cells` cells of the order that `--seed` decides."""
    torch.set_num_threads(1)
    engine = Engine(EngineSettings(accelerator="cpu", precision="32"))
    data = load(registry("datasets").parse({"name": "cifar10", "root": options.root}), options.seed)
    scoring = build(ProxyOptions, {"proxy": options.proxy})
    batch = scoring.batch(data, options.seed, engine)
    space = registry("spaces").parse("nas-bench-201")
    choices = space.choices(data.shape, len(data.classes))
    order = in_random_order(choices, generator_for(options.seed, "cells to score"))
    done = len(lines_of(options.out))
    with options.out.open("a") as file:
        for number, chosen in zip(range(options.cells), order, strict=False):
            if number < done:
                continue
            torch.manual_seed(derived_seed(options.seed, "weights", number))
            spec = NetworkSpec.for_data(space.model(chosen), data)
            scores = scoring.scores(engine.place(spec.build()), batch)
            plain = {name: [score.value, score.seconds] for name, score in scores.items()}
            file.write(json.dumps({"cell": spec.model.cell, "scores": plain}) + "\n")
            file.flush()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def correlations(lines: Sequence[dict[str, Any]]) -> Table:
    """Of each proxy Spearman's rho with a 95 % interval by Fisher's transformation, Kendall's tau, seconds a cell."""
    accuracies = [lookup(line["cell"]).standings["CIFAR-10"].accuracy for line in lines]
    shown = Table(title=f"{len(lines)} cells of NAS-Bench-201, CIFAR-10, test accuracy after 200 epochs")
    for heading in ("proxy", "Spearman", "95 %", "published", "Kendall", "seconds a cell", "no score"):
        shown.add_column(heading, justify="left" if heading == "proxy" else "right")
    for name in lines[0]["scores"]:
        values = [line["scores"][name][0] for line in lines]
        ranked = [-math.inf if value is None else value for value in values]
        rho = float(spearmanr(ranked, accuracies).statistic)
        reach = 1.96 * math.sqrt((1 + rho**2 / 2) / (len(lines) - 3))  # Bonett and Wright 2000
        middle = math.atanh(min(rho, 1 - 1e-9))
        low, high = math.tanh(middle - reach), math.tanh(middle + reach)
        shown.add_row(
            name,
            f"{rho:.3f}",
            f"{low:.2f} to {high:.2f}",
            f"{PUBLISHED[name]:.2f}" if name in PUBLISHED else "",
            f"{kendalltau(ranked, accuracies).statistic:.3f}",
            f"{statistics.median(line['scores'][name][1] for line in lines):.2f}",
            str(values.count(None)),
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--out", type=Path, required=True, help="file of scores, which grows")
    parser.add_argument("--cells", type=int, default=1000, help="cells to score (default 1000)")
    parser.add_argument("--proxy", nargs="+", default=PROXIES.names(), help="default: all; grasp takes half the time")
    parser.add_argument("--seed", type=int, default=0, help="decides cells, weights and images (default 0)")
    options = parser.parse_args()
    score_cells(options)
    Console(width=120).print(correlations(lines_of(options.out)))


if __name__ == "__main__":
    main()
