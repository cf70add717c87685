"""What a recipe is, as typed models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from nasdistill.component import LARGEST_SEED
from nasdistill.errors import SpecError, found_at, unknown
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

Accuracy = Annotated[float, Field(ge=0, le=100)]
Percent = Accuracy | dict[str, Accuracy]
"""Of a stage, or by the name of a value that reaches it."""

Plugin = Annotated[str, BeforeValidator(file_or_module)]
Folder = Annotated[str, BeforeValidator(lambda path: str(located(path)) if isinstance(path, str) else path)]


class StageEntry(BaseModel):
    """One item of a recipe's `stages`, as written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="what later stages and the report call this stage")
    uses: str = Field(description="the kind of stage; `nasdistill list stages` names them")
    options: dict[str, Any] = Field(default_factory=dict, alias="with", description="the stage's options")
    artifact: Folder | None = Field(
        None,
        description="the folder of an artifact that is there already: what reads the stage reads it, and the stage is "
        "left out",
    )


def _name_of_a_value(text: str) -> str:
    if not text or set(text) & set(",= "):
        raise ValueError("what is chosen by name has no ',', '=' or space in it")
    return text


def _of_stages(key: str) -> str:
    if not key.startswith("stages.") or "=" in key:
        raise ValueError("an axis sets options of stages, stages.STAGE.OPTION; `--sweep` takes any key")
    return key


class Axis(BaseModel):
    """Options of stages that a recipe varies together, and named values for them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Annotated[str, AfterValidator(_of_stages)], ...] = Field(
        min_length=1, description="what is set, e.g. [stages.teacher.model, stages.student.student]"
    )
    values: dict[Annotated[str, AfterValidator(_name_of_a_value)], Any] = Field(
        min_length=1, description="by name a list with a value for each key; for a single key the value itself"
    )

    @model_validator(mode="after")
    def _one_for_each_key(self) -> Axis:
        seen: dict[str, Any] = {}
        for name, value in self.values.items():
            with found_at("values", name):
                self.settings(value)
                for other, same in seen.items():
                    if value == same:
                        raise SpecError(f"this is what {other!r} is, so that one result would stand there twice")
            seen[name] = value
        return self

    def settings(self, value: Any) -> dict[str, Any]:
        """What a value sets, by key.

        Raises:
            SpecError: it has not one value for each key.
        """
        values = value if len(self.keys) > 1 else [value]
        if not (isinstance(values, list) and len(values) == len(self.keys)):
            raise SpecError(f"write a list of {len(self.keys)}: a value for each of {', '.join(self.keys)}")
        return dict(zip(self.keys, values, strict=True))


class Axes(BaseModel):
    """A recipe's section `sweep`."""

    sweep: dict[Name, Axis] = Field(
        {},
        description="what `nasdistill run` varies: every combination of the named values, or of those that `--only` "
        "names; `nasdistill tune` ignores it",
    )


class Published(BaseModel):
    """What others report for a recipe, to be shown beside what it reaches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(description="the data set; on another one nothing is shown")
    accuracy: dict[str, Percent | dict[str, Percent]] = Field(
        description="test accuracy in percent by stage; of those that axes of the sweep reach, by the names of "
        "their values, in the order of the axes"
    )


class RecipeFile(Axes):
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
    published: Published | None = Field(None, description="what others report, shown beside the outcome of the sweep")
    stages: tuple[StageEntry, ...] = Field(min_length=1, description="the stages, in any order")

    @model_validator(mode="after")
    def _published_of_what_is_there(self) -> RecipeFile:
        stages = [stage.name for stage in self.stages]
        for stage, found in self.published.accuracy.items() if self.published else ():
            with found_at("published", "accuracy", stage):
                if stage not in stages:
                    raise SpecError(unknown("stage", stage, stages))
                _check_names(found, list(self.sweep.items()))
        return self


def _check_names(found: Any, axes: Sequence[tuple[str, Axis]]) -> None:
    """Each level has names of one axis, in the order of these.

    Raises:
        SpecError: it has others.
    """
    if not isinstance(found, Mapping):
        return
    shared = [sum(name in axis.values for name in found) for _, axis in axes]
    if not any(shared):
        raise SpecError(f"no axis of the sweep that is left here has a value {next(iter(found), '')!r}")
    at = shared.index(max(shared))
    name, axis = axes[at]
    for word, inner in found.items():
        with found_at(word):
            if word not in axis.values:
                raise SpecError(unknown(name, word, axis.values))
            _check_names(inner, axes[at + 1 :])
