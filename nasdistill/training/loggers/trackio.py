"""Trackio: a run for each stage in a database on this machine."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from nasdistill.extras import require_extra
from nasdistill.training.loggers import LOGGERS, Log, Logger
from nasdistill.training.services import Memory, ServiceLog, final_numbers, hashes, name_of

if TYPE_CHECKING:
    from nasdistill.artifacts import Artifact


@LOGGERS.register("trackio")
class Trackio(Logger):
    """Scalars, images and histograms, with config, final metrics and hashes of the artifact, as a run for each stage.

    They lie in Trackio's folder, `TRACKIO_DIR`; `trackio show` shows them.
    """

    source: ClassVar[str] = "Trackio, https://github.com/gradio-app/trackio"
    logs_all_stages: ClassVar[bool] = True

    project: str | None = Field(None, description="project of the runs; the recipe's name if left out")

    @model_validator(mode="after")
    def _is_there(self) -> Trackio:
        require_extra("trackio", "the logger 'trackio' needs Trackio")
        return self

    def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
        return Run(self, Memory(self, place, config), name_of(place, config), config)


class Run(ServiceLog):
    def __init__(self, logger: Trackio, memory: Memory, name: str, config: Mapping[str, Any]) -> None:
        import trackio

        super().__init__(memory, trackio)
        if memory.run is None:
            memory.begin(uuid.uuid4().hex)
        # not `trackio.init`, which ends the run before: parts of a stage have logs of their own beside the stage's
        self.run = trackio.Run(
            url=None,
            project=logger.project or config.get("recipe", "nasdistill"),
            client=None,
            name=name,
            run_id=memory.run,
            config=dict(config),
        )

    def artifact(self, artifact: Artifact, step: int) -> None:
        self.tell(
            {**final_numbers(artifact), **{f"sha256.{name}": digest for name, digest in hashes(artifact).items()}}, step
        )

    def close(self) -> None:
        self.run.finish()
