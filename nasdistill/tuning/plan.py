"""What every trial of an experiment is told: plain data beside the recipe, in a folder that nni takes to them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nasdistill.errors import DamagedFile, UserError, unknown
from nasdistill.recipes.experiment import Metric, TuneSettings
from nasdistill.recipes.loading import Recipe, load_recipe
from nasdistill.recipes.source import RecipeError, dump
from nasdistill.recipes.varied import Varied
from nasdistill.stages import Stage
from nasdistill.storage import read_json, sha256_of_json, write_json, write_text
from nasdistill.training.history import SELECTED_BY, VALIDATION_LOSS

RECIPE = "recipe.yaml"
PLAN = "plan.json"
BY = "--vary"
BUDGET = "TRIAL_BUDGET"
"""What nni calls the share of the budget that Hyperband and BOHB give a trial."""


class Plan(BaseModel):
    """What a trial does with the values that it gets.

    Attributes:
        experiment: its name for this folder; tells whether a machine sees the experiment's own folder.
        out: the experiment's folder, as an absolute path.
        remote: where trials work on a machine that does not see `out`, below its home unless absolute.
        directory: where the experiment was started; relative paths in the recipe start there if it exists.
        stage: the stage whose metric counts.
        curve: what it tells after each evaluation, for the assessor.
        budget_key: takes the budget of a trial.
        threads: per trial on this machine; None leaves it to torch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    out: str
    remote: str
    directory: str
    vary: dict[str, Varied]
    stage: str
    metric: Metric
    curve: str
    budget_key: str | None
    attempts: int
    threads: int | None

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values for the recipe from the parameters that nni hands a trial."""
        found = {key: varied.value(given[key]) for key, varied in self.vary.items()}
        if self.budget_key is not None:
            found[self.budget_key] = round(given[BUDGET])
        return found

    def recipe(self, folder: Path, values: Mapping[str, Any]) -> Recipe:
        """The recipe in the plan's folder at these values."""
        return load_recipe(str(folder / RECIPE), swept=values, by=BY)

    def write(self, folder: Path, recipe: Recipe, plugins: Sequence[str]) -> None:
        """Write the plan, the recipe, and copies of its plugins, which it then names as they lie beside it.

        Args:
            plugins: of the recipe and of the command line; files as absolute paths.
        """
        folder.mkdir(parents=True, exist_ok=True)
        names = []
        for plugin in plugins:
            if plugin.endswith(".py"):
                shutil.copyfile(plugin, folder / Path(plugin).name)
            names.append(Path(plugin).name if plugin.endswith(".py") else plugin)
        write_text(folder / RECIPE, dump({**recipe.source.data, "plugins": names} if names else recipe.source.data))
        write_json(folder / PLAN, self.model_dump(mode="json"))


def read_plan(folder: Path) -> Plan:
    """Read what `Plan.write` wrote.

    Raises:
        DamagedFile: it is something else.
    """
    try:
        return Plan.model_validate(read_json(folder / PLAN))
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{folder / PLAN} is no plan of an experiment: {error}") from None


def digest_of(values: Mapping[str, Any]) -> str:
    """The name of the trial with these values: equal values are one trial, whoever suggested them how often."""
    return sha256_of_json({key: values[key] for key in sorted(values)})[:10]


def new_experiment_name() -> str:
    """One that no other experiment has; nni takes letters and digits."""
    return f"nd{uuid.uuid4().hex[:10]}"


def load_tuned(
    name: str, overrides: Sequence[str], plugins: Sequence[str], tune: Mapping[str, Any]
) -> tuple[Recipe, TuneSettings, str]:
    """Read and check a recipe with its experiment: at all choices, and at both ends of what varies in between.

    Returns:
        the recipe as it is written, the experiment's settings, and the stage whose metric counts.

    Raises:
        RecipeError: a mistake in the recipe, in a setting, or at one of those values.
    """
    recipe = load_recipe(name, overrides, plugins, tune=tune)
    settings = recipe.settings.tune or TuneSettings()
    if not settings.vary:
        raise RecipeError(
            f"{name}: nothing varies; say what does with --vary 'stages.student.epochs=choice(10, 20)', "
            "or in the recipe's section tune.vary"
        )
    for key, varied in settings.vary.items():
        if key.split(".")[0] in ("seed", "seeds", "tune", "engine", "data"):
            raise RecipeError(
                f"{name}: tune.vary.{key}: an experiment varies stages; {key.split('.')[0]!r} stays as it is"
            )
        for value in varied.examples():
            load_recipe(name, overrides, plugins, {key: value}, BY, tune)
    if settings.budget_key is not None:
        load_recipe(name, overrides, plugins, {settings.budget_key: 1}, "--budget-key", tune)
    return recipe, settings, scored_stage(recipe, settings)


def scored_stage(recipe: Recipe, settings: TuneSettings) -> str:
    """The stage whose metric counts.

    Raises:
        RecipeError: there is none by this name, or none that is scored on validation images.
    """
    scored = [name for name, stage in recipe.stages.items() if _is_scored(stage)]
    wanted = settings.stage
    if wanted is None and scored:
        return scored[-1]
    if wanted is None:
        raise recipe.source.error(("stages",), "no stage here trains on labels, so that none has a validation score")
    if wanted not in recipe.stages:
        raise recipe.source.error(("tune", "stage"), unknown("stage", wanted, recipe.stages))
    if wanted not in scored:
        raise recipe.source.error(
            ("tune", "stage"),
            f"{wanted!r} has no validation score, since it does not train on labels (these do: {', '.join(scored)})",
        )
    return wanted


def curve_of(stage: Stage, metric: Metric) -> str:
    """The curve of a stage that shows its metric while it trains."""
    return VALIDATION_LOSS if metric == "validation.loss" else SELECTED_BY[stage.select]  # type: ignore[attr-defined]


def _is_scored(stage: Stage) -> bool:
    return "select" in type(stage).model_fields


def plugins_of(recipe: Recipe, folder: Path, more: Sequence[str]) -> list[str]:
    """The plugins of a recipe, files as absolute paths.

    Args:
        folder: of the recipe, where its plugins start.
        more: those of the command line.

    Raises:
        UserError: two of them are files of one name.
    """
    start = {**dict.fromkeys(more, Path.cwd()), **dict.fromkeys(recipe.settings.plugins, folder)}
    found = [str((place / name).resolve()) if name.endswith(".py") else name for name, place in start.items()]
    names = [Path(plugin).name for plugin in dict.fromkeys(found)]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two plugins are called {name}, and trials have them in one folder; rename one of them")
    return list(dict.fromkeys(found))
