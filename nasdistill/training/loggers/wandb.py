"""Weights & Biases: a run for each stage, kept on this machine unless you say otherwise."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nasdistill.errors import UserError
from nasdistill.extras import require_extra
from nasdistill.training.loggers import LOGGERS, Log, Logger
from nasdistill.training.services import Memory, ServiceLog, final_numbers, hashes, name_of

if TYPE_CHECKING:
    from nasdistill.artifacts import Artifact


@LOGGERS.register("wandb")
class WeightsAndBiases(Logger):
    """Scalars, images and histograms, with config, final metrics and hashes of the artifact, as a run for each stage.

    Offline, a run lies in `tensorboard/wandb/` of the run's folder, and `wandb sync` sends it later.
    """

    source: ClassVar[str] = "Weights & Biases, https://docs.wandb.ai"
    logs_all_stages: ClassVar[bool] = True

    project: str | None = Field(None, description="project of the runs; the recipe's name if left out")
    entity: str | None = Field(None, description="user or team that the project belongs to; yours if left out")
    mode: Literal["offline", "online"] = Field(
        "offline", description="whether runs stay on this machine, or are sent while they run, after `wandb login`"
    )

    @model_validator(mode="after")
    def _is_there(self) -> WeightsAndBiases:
        require_extra("wandb", "the logger 'wandb' needs Weights & Biases")
        return self

    def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
        return Run(self, Memory(self, place, config), place, config)


class Run(ServiceLog):
    def __init__(self, logger: WeightsAndBiases, memory: Memory, place: Path, config: Mapping[str, Any]) -> None:
        import wandb

        super().__init__(memory, wandb)
        if logger.mode == "online" and not wandb.login(prompt=False):  # `init` would ask, and the stage wait
            raise UserError("nobody is logged in: run `wandb login`, or leave runs offline")
        if memory.run is None:
            memory.begin(uuid.uuid4().hex)
        self.failed = 0 if "part" in config else 1  # a part ends without an artifact
        self.run = wandb.init(
            project=logger.project or config.get("recipe", "nasdistill"),
            entity=logger.entity,
            name=name_of(place, config),
            id=memory.run,
            config=dict(config),
            dir=place.parent,
            mode=logger.mode,
            resume="allow" if logger.mode == "online" else None,  # offline, `wandb sync` joins what has one id
            reinit="create_new",  # parts of a stage have logs of their own beside the stage's
            settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
        )

    def artifact(self, artifact: Artifact, step: int) -> None:
        self.run.summary.update({**final_numbers(artifact), "sha256": hashes(artifact)})
        self.failed = 0

    def close(self) -> None:
        self.run.finish(exit_code=self.failed)
