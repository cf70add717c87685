"""What is checked before an experiment starts: every mistake is found here, before anything runs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasdistill.errors import UserError, unknown
from nasdistill.paths import settled
from nasdistill.plugins import files_of
from nasdistill.recipes.experiment import Metric, TuneSettings
from nasdistill.recipes.graph import read_by
from nasdistill.recipes.loading import Recipe, load_recipe
from nasdistill.recipes.overrides import replaced
from nasdistill.recipes.source import RecipeError
from nasdistill.recipes.trust import Trust, refuse, run_all
from nasdistill.stages import Stage
from nasdistill.training.history import VALIDATION_LOSS
from nasdistill.tuning.plan import BY, RECIPE


@dataclass(frozen=True)
class Tuned:
    """A recipe with its experiment, checked.

    Attributes:
        recipe: as it is written.
        stage: whose metric counts.
        examples: the recipe at values of what varies.
        plugins: of the recipe and of the command line, as trials load them.
        files: those of the plugins, and what they import from beside them, by their names beside a trial's recipe.
    """

    recipe: Recipe
    settings: TuneSettings
    stage: str
    examples: tuple[Recipe, ...]
    plugins: tuple[str, ...]
    files: Mapping[str, Path]


def load_tuned(
    name: str, overrides: Sequence[str], plugins: Sequence[str], tune: Mapping[str, Any], trust: Trust = refuse
) -> Tuned:
    """Read and check a recipe with its experiment: at all choices, and at both ends of what varies in between.

    Args:
        trust: as for `load_recipe`; what it passes over is none to tune.

    Raises:
        RecipeError: a mistake in the recipe, in a setting, or at one of those values.
        UserError: two plugins bring different files of one name.
    """
    load = functools.partial(load_recipe, name, overrides, plugins, tune=tune, trust=trust)
    recipe = load()
    settings = recipe.settings.tune or TuneSettings()
    if not settings.vary:
        raise RecipeError(
            f"{name}: nothing varies; say what does with --vary 'stages.student.epochs=choice(10, 20)', "
            "or in the recipe's section tune.vary"
        )
    for at, by in enumerate(settings.vary):
        for text in overrides:
            if replaced(text.partition("=")[0], by):
                raise RecipeError(f"override {text!r}: {by} varies; leave one of the two out")
        for key in list(settings.vary)[:at]:
            if replaced(key, by):
                behind = f"after {by}, as that one replaces it" if not replaced(by, key) else f"without {by}"
                raise RecipeError(f"{name}: tune.vary.{key}: it can vary only {behind}")
    examples: dict[str, list[Recipe]] = {}
    for key, varied in settings.vary.items():
        if key.split(".")[0] in ("seed", "seeds", "tune", "engine", "data"):
            raise RecipeError(
                f"{name}: tune.vary.{key}: an experiment varies stages; {key.split('.')[0]!r} stays as it is"
            )
        examples[key] = [load(swept={key: value}, by=BY) for value in varied.examples()]
    if settings.budget_key is not None:
        load(swept={settings.budget_key: 1}, by="--budget-key")
    if recipe.settings.engine.devices > 1 and settings.concurrency > 1:
        raise recipe.source.error(
            ("tune", "concurrency"),
            "trials of several processes each run one at a time, as one would wait for an artifact while its fellows "
            "wait for it; leave concurrency or devices at 1",
        )
    for name, asked in (("objectives", settings.objectives), ("constraints", settings.constraints)):
        if asked and settings.engine == "nni":
            raise recipe.source.error(("tune", name), "nni has one objective and no constraints; optuna has both")
    stage = scored_stage(recipe, settings)
    for key, found in examples.items():
        scored = [_all_of(stage, each) for each in found]
        if len(scored) > 1 and all(each == scored[0] for each in scored):
            raise recipe.source.error(("tune", "vary", key), f"it does not reach {stage!r}, whose score counts")
        curves = {curve_of(each.stages[stage], settings.metric) for each in found if stage in each.stages}
        if len(curves) > 1:
            raise recipe.source.error(
                ("tune", "vary", key), f"scores of {stage!r} would be of {' and of '.join(sorted(map(str, curves)))}"
            )
    if settings.assessor is not None and curve_of(recipe.stages[stage], settings.metric) is None:
        raise recipe.source.error(
            ("tune", "assessor"), f"{stage!r} reports no score before it ends, so nothing can be assessed"
        )
    # trials know nothing of where a choice that is a path was written
    vary = {
        key: varied.model_copy(update={"arguments": tuple(settled(varied.arguments))})
        for key, varied in settings.vary.items()
    }
    settings = settings.model_copy(update={"vary": vary})
    return Tuned(recipe, settings, stage, tuple(itertools.chain(*examples.values())), *_plugins_of(recipe, plugins))


def scored_stage(recipe: Recipe, settings: TuneSettings) -> str:
    """The stage whose metric counts.

    Raises:
        RecipeError: there is none by this name, or none that is scored on validation images.
    """
    scored = [name for name, stage in recipe.stages.items() if stage.is_scored()]
    wanted = settings.stage
    if wanted is None and scored:
        return scored[-1]
    if wanted is None:
        raise recipe.source.error(
            ("stages",),
            "none has a validation score: it takes one that trains on labels, a shrink, or an evaluate with "
            "part: validation",
        )
    if wanted not in recipe.stages:
        raise recipe.source.error(("tune", "stage"), unknown("stage", wanted, recipe.stages))
    if wanted not in scored:
        raise recipe.source.error(
            ("tune", "stage"),
            f"{wanted!r} has no validation score, as it neither trains on labels nor shrinks nor evaluates with part: "
            f"validation (these have one: {', '.join(scored) or 'none'})",
        )
    return wanted


def _all_of(name: str, recipe: Recipe) -> dict[str, Stage]:
    """A stage and all that it reads, by name."""
    found: dict[str, Stage] = {}
    ahead = [name] if name in recipe.stages else []
    while ahead:
        each = ahead.pop()
        if each not in found:
            found[each] = recipe.stages[each]
            ahead += read_by(found[each], recipe.stages)
    return found


def curve_of(stage: Stage, metric: Metric) -> str | None:
    """The curve that shows a stage's metric while it trains; None where nothing is told before it ends."""
    curve = stage.score_curve()
    return VALIDATION_LOSS if curve is not None and metric == "validation.loss" else curve


def _plugins_of(recipe: Recipe, more: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Path]]:
    """The plugins of a recipe and of the command line, and the files of them, by their names in a plan's folder."""
    plugins = (*more, *recipe.settings.plugins)
    files: dict[str, Path] = {}
    for plugin in plugins:
        for name, file in (files_of(Path(plugin)) if plugin.endswith(".py") else {}).items():
            if (other := files.setdefault(name, file)) != file:
                raise UserError(f"trials have all plugins in one folder, but {name} is {other} and {file}; rename one")
    return tuple(dict.fromkeys(Path(each).name if each.endswith(".py") else each for each in plugins)), files


def recipe_at(folder: Path, values: Mapping[str, Any]) -> Recipe:
    """The recipe in a plan's folder at the values of a trial; whoever started the experiment said yes to its code."""
    return load_recipe(str(folder / RECIPE), swept=values, by=BY, trust=run_all)
