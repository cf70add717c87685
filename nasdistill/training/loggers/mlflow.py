"""MLflow: a run for each stage, on a server or in a folder."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from nasdistill.errors import SpecError
from nasdistill.extras import require_extra
from nasdistill.training.loggers import LOGGERS, Log, Logger
from nasdistill.training.services import Memory, final_numbers, flat, hashes, name_of

if TYPE_CHECKING:
    import torch

    from nasdistill.artifacts import Artifact

BATCH = 100
"""Params, or tags, that MLflow takes in one call."""
LONGEST = 500
"""Characters of a param that every version takes."""


@LOGGERS.register("mlflow")
class MlFlow(Logger):
    """Scalars and images, with config, final metrics and hashes of the artifact, as a run of MLflow for each stage."""

    source: ClassVar[str] = "MLflow Tracking, https://mlflow.org/docs/latest/ml/tracking"
    logs_all_stages: ClassVar[bool] = True

    tracking_uri: str | None = Field(
        None,
        description="where MLflow keeps runs: a server's address; a folder, from the working directory on; or a "
        "database as `sqlite:///runs.db`; what `MLFLOW_TRACKING_URI` says if left out",
    )
    experiment: str | None = Field(None, description="MLflow's experiment; the recipe's name if left out")

    @model_validator(mode="after")
    def _is_there(self) -> MlFlow:
        require_extra("mlflow", "the logger 'mlflow' needs MLflow")
        if not self.uri:
            raise SpecError(
                "the logger 'mlflow' needs to know where: a server's address, as http://127.0.0.1:5000, or a folder; "
                "MLFLOW_TRACKING_URI may say it too",
                ("tracking_uri",),
            )
        if re.match(r"(sqlite|mysql|postgresql|mssql)\b", self.uri) and find_spec("sqlalchemy") is None:
            raise SpecError(
                f"{self.uri!r} is a database, for which MLflow needs: pip install mlflow", ("tracking_uri",)
            )
        return self

    @property
    def uri(self) -> str:
        return self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")

    def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
        return Run(self, Memory(self, place, config), name_of(place, config), config)


class Run(Log):
    def __init__(self, logger: MlFlow, memory: Memory, name: str, config: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else it refuses the folder that was asked for
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # else a server that is down takes four minutes
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.memory = memory
        self.client = MlflowClient(logger.uri)
        self.status = "FINISHED" if "part" in config else "KILLED"  # a part ends without an artifact
        if memory.run is None:
            experiment = logger.experiment or config.get("recipe", "nasdistill")
            found = self.client.get_experiment_by_name(experiment)
            number = found.experiment_id if found else self.client.create_experiment(experiment)
            memory.begin(self.client.create_run(number, run_name=name).info.run_id)
            for some in _batches(flat(config)):
                self.client.log_batch(self.id, params=[Param(name, text[:LONGEST]) for name, text in some])
        else:
            self.client.update_run(memory.run, status="RUNNING")

    @property
    def id(self) -> str:
        assert self.memory.run is not None
        return self.memory.run

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if self.memory.is_new(step):
            self._numbers(values, step)

    def images(self, tag: str, pixels: torch.Tensor, step: int) -> None:
        from nasdistill.training.pictures import grid

        if self.memory.is_new(step):
            self.client.log_image(self.id, grid(pixels).permute(1, 2, 0).numpy(), key=_name(tag), step=step)

    def artifact(self, artifact: Artifact, step: int) -> None:
        from mlflow.entities import RunTag

        self._numbers(final_numbers(artifact), step)
        for some in _batches((f"sha256.{name}", digest) for name, digest in hashes(artifact).items()):
            self.client.log_batch(self.id, tags=[RunTag(name, text) for name, text in some])
        self.status = "FINISHED"

    def _numbers(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, [Metric(_name(name), value, now, step) for name, value in values.items()])

    def close(self) -> None:
        self.client.set_terminated(self.id, self.status)


def _name(text: str) -> str:
    """With the characters alone that MLflow takes in names."""
    return re.sub(r"[^\w .:/-]", "_", text, flags=re.ASCII)


def _batches(values: Iterable[tuple[str, Any]]) -> Iterator[list[tuple[str, str]]]:
    """Names and values as MLflow takes them, as many as it takes at once."""
    texts = [(_name(name), value if isinstance(value, str) else json.dumps(value)) for name, value in values]
    for start in range(0, len(texts), BATCH):
        yield texts[start : start + BATCH]
