"""What a recipe is, as typed models."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from nasdistill.component import LARGEST_SEED
from nasdistill.growth.budget import Budget
from nasdistill.paths import located
from nasdistill.recipes.experiment import TuneSettings
from nasdistill.registry import ComponentOf
from nasdistill.training.engine import EngineSettings


def _word_for_a_folder(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise ValueError("a name is up to 64 letters, digits, '.', '_' and '-', and begins with a letter or digit")
    return text


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise ValueError(f"the seed {seed} stands here twice, which would count one result as two")
    return seeds


def file_or_module(plugin: Any) -> Any:
    """A plugin as it is loaded, wherever it was written."""
    return str(located(plugin)) if isinstance(plugin, str) and plugin.endswith(".py") else plugin


# Names become folders, so they are words that every file system takes.
Name = Annotated[str, AfterValidator(_word_for_a_folder)]
Seeds = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=0, le=LARGEST_SEED)], ...],
    Field(min_length=1),
    AfterValidator(_each_once),
]

Plugin = Annotated[str, BeforeValidator(file_or_module)]


class StageEntry(BaseModel):
    """One item of a recipe's `stages`, as written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="what later stages and the report call this stage")
    uses: str = Field(description="the kind of stage; `nasdistill list stages` names them")
    options: dict[str, Any] = Field(default_factory=dict, alias="with", description="the stage's options")


class RecipeFile(BaseModel):
    """A recipe, as written."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name = Field(description="name of the recipe, and of the default folder of its runs")
    seed: int | None = Field(None, strict=True, ge=0, le=LARGEST_SEED, description="seed of all random numbers")
    seeds: Seeds | None = Field(
        None, description="repeat the recipe once for each, and report mean and standard deviation"
    )
    data: Annotated[Any, ComponentOf("datasets")] = Field(
        "digits", validate_default=True, description="the data set that every stage works on"
    )
    engine: EngineSettings = Field(EngineSettings(), description="device, precision, number of processes")
    checkpoint_seconds: float = Field(30.0, strict=True, gt=0, description="time between checkpoints inside a stage")
    loggers: tuple[Annotated[Any, ComponentOf("loggers")], ...] = Field(
        ("tensorboard",), validate_default=True, description="where the curves of a stage go while it runs"
    )
    budget: Budget | None = Field(
        None, description="what networks may cost at most, for every stage with this option that gives none of its own"
    )
    plugins: tuple[Plugin, ...] = Field((), description="Python files or modules that add components")
    tune: TuneSettings | None = Field(None, description="what `nasdistill tune` varies; `nasdistill run` ignores it")
    stages: tuple[StageEntry, ...] = Field(min_length=1, description="the stages, in any order")
