"""What the front door hands back: networks and numbers that print well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from nasdistill.artifacts import open_artifact
from nasdistill.errors import UserError, unknown
from nasdistill.models.base import WEIGHTS, Network, load_network, load_spec
from nasdistill.models.genotypes import CellString, Genotype
from nasdistill.report.records import RunRecord
from nasdistill.report.summaries import by_stage
from nasdistill.report.tables import markdown, results
from nasdistill.stages.growing import GROWTH
from nasdistill.stages.training import HISTORY
from nasdistill.storage import read_json


class Metrics(dict[str, Any]):
    """What a stage measured, by name as in `artifact.json`; prints the numbers of it."""

    def __repr__(self) -> str:
        found = {**self, **{f"accuracy, {kind}": value for kind, value in self.get("accuracy", {}).items()}}
        numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
        return ", ".join(f"{name.replace('_', ' ')} {value:.6g}" for name, value in numbers.items())


@dataclass(frozen=True, repr=False)
class Result(Network):
    """A network and how it came to be.

    Attributes:
        metrics: as in `artifact.json`.
        history: curves by name, each [[epochs done, value], ...].
        steps: of a grown architecture, one mapping for each step.
    """

    metrics: Metrics = field(default_factory=Metrics)
    history: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Mapping[str, Any]] = ()

    def __repr__(self) -> str:
        scores = ", ".join(f"{value:.2f} % {kind}" for kind, value in self.accuracy.items())
        return super().__repr__() + (f", accuracy {scores}" if scores else "")

    @property
    def accuracy(self) -> Mapping[str, float]:
        """On the test images, in percent: `last`, `best`, `selected`; empty where nothing was trained."""
        return cast(Mapping[str, float], self.metrics.get("accuracy", {}))

    @property
    def genotype(self) -> Genotype | CellString | None:
        """The cells that it is made of, where it is."""
        genotype: Genotype | CellString | None = self.spec.model.cell_genotype()
        return genotype


@dataclass(frozen=True)
class Drawing:
    """Pictures that a notebook shows; each is one SVG element."""

    pictures: tuple[str, ...]

    def _repr_html_(self) -> str:
        return "".join(f'<div style="max-width: 60em">{picture}</div>' for picture in self.pictures)


def load(folder: str | Path) -> Result:
    """The network in the folder of an artifact, e.g. `runs/quickstart/stages/student`."""
    artifact = open_artifact(Path(folder))
    with torch.random.fork_rng(devices=()):
        if (artifact.folder / WEIGHTS).is_file():
            return result_of(Network(*load_network(artifact.folder)), artifact.manifest.metrics, artifact.folder)
        spec = load_spec(artifact.folder)
        return result_of(Network(spec, spec.build(), trained=False), artifact.manifest.metrics, artifact.folder)


def result_of(network: Network, metrics: Mapping[str, Any], payload: Path) -> Result:
    """A network, on the CPU and ready to evaluate, with what lies beside it in its payload."""
    read = {name: read_json(payload / name) if (payload / name).is_file() else {} for name in (HISTORY, GROWTH)}
    return Result(
        network.spec,
        network.module.to("cpu").to(memory_format=torch.contiguous_format).eval(),
        network.trained,
        Metrics(metrics),
        read[HISTORY].get("curves", {}),
        tuple(read[GROWTH].get("steps", ())),
    )


@dataclass(frozen=True)
class Run:
    """A recipe that ran; `run["student"]` is the network of a stage, `run["student", 1]` that of the seed 1."""

    record: RunRecord
    folder: Path

    def __getitem__(self, which: str | tuple[str, int]) -> Result:
        name, seed = (which, self.record.seeds[0]) if isinstance(which, str) else which
        for row in self.record.rows:
            if (row.stage, row.seed) == (name, seed) and row.folder is not None:
                return load(row.folder)
        stages = {row.stage for row in self.record.rows}
        raise UserError(
            unknown("stage", name, stages) if name not in stages else f"{name} did not run with seed {seed}"
        )

    def __repr__(self) -> str:
        return markdown(results(by_stage(self.record.rows)))

    _repr_markdown_ = __repr__
