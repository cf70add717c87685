"""A run that never happened: artifacts with the payloads of every kind of stage, and the record of the run."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasdistill.artifacts import FORMAT, MANIFEST, Artifact, publish
from nasdistill.report.records import Row, RunRecord
from nasdistill.storage import files_below, read_sealed, sha256_of, sha256_of_json, write_json, write_sealed

OPERATIONS = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "none")
NORMAL = [
    [["sep_conv_3x3", 0], ["sep_conv_3x3", 1]],
    [["sep_conv_3x3", 0], ["sep_conv_3x3", 1]],
    [["sep_conv_3x3", 1], ["skip_connect", 0]],
    [["skip_connect", 0], ["dil_conv_3x3", 2]],
]
REDUCE = [
    [["max_pool_3x3", 0], ["max_pool_3x3", 1]],
    [["skip_connect", 2], ["max_pool_3x3", 1]],
    [["max_pool_3x3", 0], ["skip_connect", 2]],
    [["skip_connect", 2], ["max_pool_3x3", 1]],
]
RECIPE = """name: quickstart
seed: 0
data: {name: digits}
stages:
  - name: student-arch
    uses: search
    with: {space: darts-tiny, strategy: darts, epochs: 3}
"""


def curve(final: float, start: float, epochs: int = 12, noise: float = 0.0, seed: int = 0) -> list[list[float]]:
    """An exponential approach from `start` to `final`."""
    draw = random.Random(seed)  # noqa: S311
    return [
        [epoch, final + (start - final) * math.exp(-epoch / 3) + noise * draw.uniform(-1, 1)]
        for epoch in range(1, epochs + 1)
    ]


def trained(final: float, seed: int) -> dict[str, Any]:
    curves = {
        "train/cross-entropy": curve(0.08, 2.3, noise=0.03, seed=seed),
        "validation/loss": curve(0.15, 2.3, noise=0.05, seed=seed + 1),
        "validation/accuracy": curve(final + 0.4, 10, noise=0.4, seed=seed + 2),
        "test/accuracy": curve(final, 10, noise=0.4, seed=seed + 3),
    }
    draw = random.Random(seed)  # noqa: S311
    matrix = [[36 if row == column else int(draw.random() < 0.09) for column in range(10)] for row in range(10)]
    return {
        "history.json": {"curves": curves},
        "confusion.json": {"labels": [str(digit) for digit in range(10)], "matrix": matrix},
    }


def searched(seed: int) -> dict[str, Any]:
    draw = random.Random(seed)  # noqa: S311
    curves = {
        f"alpha/{cell}/{edge}/{operation}": curve(draw.uniform(0.02, 0.35), 1 / 7, epochs=8)
        for cell in ("normal", "reduce")
        for edge in range(5)
        for operation in OPERATIONS
    }
    curves |= {f"entropy/{cell}": curve(1.3, 1.95, epochs=8) for cell in ("normal", "reduce")}
    curves |= {"train/cross-entropy": curve(0.4, 2.3, epochs=8), "validation/loss": curve(0.5, 2.3, epochs=8)}
    return {"history.json": {"curves": curves}, "genotype.json": {"normal": NORMAL, "reduce": REDUCE}}


GROWN = {
    "growth.json": {
        "steps": [
            {"step": number, "unit": f"cells.{number % 5}", "width": 12 + 2 * number,
             "parameters": 52334 + 5200 * number, "ratio": 1 + number * 0.1}
            for number in range(1, 11)
        ],
        "units": [f"cells.{cell}" for cell in range(5)],
        "importance": {"before": [0.31, 0.22, 0.64, 0.41, 0.12], "after": [0.24, 0.2, 0.33, 0.31, 0.13]},
        "widths": {"before": [8, 8, 16, 16, 32], "after": [12, 10, 28, 24, 34]},
    }
}  # fmt: skip


def write_artifact(
    out: Path,
    stage: str,
    uses: str,
    seed: int,
    payload: Mapping[str, Any],
    metrics: Mapping[str, Any],
    cost: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> Artifact:
    """Publish an artifact as a stage would."""
    key = sha256_of_json([stage, seed])
    prepared = out / "work" / f"stage-{key[:12]}"
    prepared.mkdir(parents=True)
    for name, content in payload.items():
        write_json(prepared / name, content)
    return publish(
        prepared, out / "artifacts" / f"stage-{key[:12]}", kind="metrics", stage=stage, uses=uses, key=key, config={},
        inputs=dict(inputs), seed=seed, metrics=dict(metrics), cost=dict(cost), provenance={"git": "3f2a9c01d4e5b6a7"},
    )  # fmt: skip


def resealed(folder: Path) -> None:
    """Make what a test has put into an artifact's folder the artifact's, as if its stage had written it."""
    fields = {"kind": "metrics", "stage": "any", "uses": "train", "key": "0", "seed": 0, "config": {}, "inputs": {},
              "metrics": {}, "cost": {}, "provenance": {}, "format": FORMAT}  # fmt: skip
    content = read_sealed(folder / MANIFEST) if (folder / MANIFEST).is_file() else fields
    names = [path.relative_to(folder).as_posix() for path in files_below(folder) if path.name != MANIFEST]
    write_sealed(folder / MANIFEST, {**content, "files": {name: sha256_of(folder / name) for name in names}})


def fake_run(out: Path, seeds: tuple[int, ...] = (0,), name: str = "quickstart", prefix: str = "") -> RunRecord:
    """The demo's run with made-up numbers, its artifacts below `out`.

    Args:
        prefix: put before every stage's name, to try out hostile names.
    """
    small, large = 52_334, 104_151
    stages: list[tuple[str, str, float | None, int, dict[str, str]]] = [
        ("student-arch", "search", None, small, {}),
        ("teacher-arch", "grow-teacher", None, large, {"student": "student-arch"}),
        ("teacher", "train", 98.06, large, {"model": "teacher-arch"}),
        ("alone", "train", 96.39, small, {"model": "student-arch"}),
        ("student", "distill", 97.22, small, {"student": "student-arch", "teacher": "teacher"}),
    ]
    rows = []
    for seed in seeds:
        done: dict[str, Artifact] = {}
        for number, (stage, uses, accuracy, parameters, reads) in enumerate(stages):
            metrics: dict[str, Any] = {"parameters": parameters, "multiply_adds": parameters * 57}
            cost: dict[str, Any] = {"seconds": 21.4 + 13 * number, "peak_memory_bytes": 612_000_000 + number}
            payload: Mapping[str, Any] = searched(seed) if uses == "search" else GROWN
            if accuracy is not None:
                shift = 0.21 * ((seed * 7 + number) % 3 - 1)
                metrics["accuracy"] = {"last": accuracy + shift - 0.28, "best": accuracy + shift + 0.2,
                                       "selected": accuracy + shift}  # fmt: skip
                cost |= {"latency_ms": 1.31 * (1.7 if parameters == large else 1), "samples_per_second": 1520.0}
                payload = trained(accuracy + shift, seed * 100 + number)
            inputs = {field: done[name].content for field, name in reads.items()}
            done[stage] = write_artifact(out, prefix + stage, uses, seed, payload, metrics, cost, inputs)
            rows.append(Row.of(done[stage], cached=number == 0))
    return RunRecord(
        name=name,
        recipe=RECIPE,
        command="nasdistill run quickstart --out runs/quickstart",
        seeds=seeds,
        rows=tuple(rows),
        versions={"nasdistill": "0.1.0", "python": "3.12.4", "torch": "2.15.0"},
        device="cpu, Intel(R) Xeon(R) Processor, 2 cores, bf16 mixed",
        started="2026-11-21T01:20:00+00:00",
        seconds=252.3,
    )
