"""nni's tuners and assessors by name, checked before an experiment starts."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Literal

from nasdistill.errors import SpecError, unknown
from nasdistill.recipes.experiment import TuneSettings
from nasdistill.recipes.loading import Recipe

REFUSED = {
    "PPO": "it draws networks of nni's own, not values of a recipe",
    "RegularizedEvolutionTuner": "it draws networks of nni's own; Evolution is for values",
    "NetworkMorphism": "it draws networks of nni's own, not values of a recipe",
    "PBT": "it copies weights from one trial into another, where each trial here is a run of its own",
    "Batch": "it takes one list of combinations; nasdistill run --sweep does that",
}
INSTALLS = {"hyperopt": "nni[Anneal]", "smac": "nni[SMAC]", "ConfigSpace": "nni[BOHB]", "pybnn": "nni[DNGO]"}
"""What to install, by the module that is missing."""


def algorithms_of(recipe: Recipe, settings: TuneSettings) -> dict[str, Any]:
    """nni's tuner and assessor of an experiment, as its config names them.

    Raises:
        RecipeError: one of them cannot be had, with its place in the recipe.
    """
    found: dict[str, Any] = {}
    for kind, wanted in (("tuner", settings.tuner), ("assessor", settings.assessor)):
        if wanted is None:
            continue
        try:
            found[kind] = algorithm(
                kind,  # type: ignore[arg-type]
                wanted,
                settings.higher_is_better,
                recipe.seeds[0],
                settings.search_space(),
            )
        except SpecError as error:
            raise recipe.source.error(("tune", kind, *error.path), error.problem) from None
    hands_out = found["tuner"].pop("budgets")
    found.get("assessor", {}).pop("budgets", None)
    if hands_out != (settings.budget_key is not None):
        name = found["tuner"]["name"]
        raise recipe.source.error(
            ("tune", "budget_key"),
            f"{name} hands out budgets: name the key that takes them, e.g. stages.student.epochs"
            if hands_out
            else f"{name} hands out no budgets (Hyperband and BOHB do)",
        )
    return found


def algorithm(
    kind: Literal["tuner", "assessor"],
    wanted: str | Mapping[str, Any],
    higher_is_better: bool,
    seed: int,
    space: Mapping[str, Any],
) -> dict[str, Any]:
    """A tuner or assessor as nni's config names it: `name`, `classArgs`, and `budgets`, whether it hands out budgets.

    The direction, and the seed where it takes one, are added to what is given. It is tried out here, as nni tells
    nobody when a tuner dies.

    Args:
        space: what varies, in nni's terms.

    Raises:
        SpecError: unknown, not for recipes, without what it needs, or with options or a space that it does not take.
    """
    from nni.tools.package_utils.config_manager import get_all_algo_meta

    options = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    name = options.pop("name", None)
    known = {meta.name: meta for meta in get_all_algo_meta() if meta.algo_type == kind}
    if name in REFUSED and kind == "tuner":
        raise SpecError(f"{name} is no tuner for a recipe: {REFUSED[name]}")
    if name not in known:
        raise SpecError(unknown(kind, str(name), set(known) - set(REFUSED)))
    try:
        made = _imported(known[name].class_name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        raise SpecError(f"{name} needs {missing}: pip install '{INSTALLS.get(missing, missing)}'") from None
    accepted = inspect.signature(made).parameters
    for option in options:
        if option not in accepted or option == "optimize_mode":
            raise SpecError(unknown(f"option of {name}", option, set(accepted) - {"optimize_mode"}), (option,))
    implied = {"optimize_mode": "maximize" if higher_is_better else "minimize", "seed": seed}
    arguments = {**{key: value for key, value in implied.items() if key in accepted}, **options}
    try:
        if known[name].validator_class_name:
            _imported(known[name].validator_class_name)().validate_class_args(**arguments)
        if not known[name].is_advisor:  # those talk to a manager from their first line on
            tried = made(**arguments)
            if kind == "tuner":
                tried.update_search_space(dict(space))
                tried.generate_parameters(0)
    except Exception as error:  # whatever its author thought of
        raise SpecError(f"{name} does not take this: {' '.join(str(error).split())}") from None
    return {"name": name, "classArgs": arguments or None, "budgets": known[name].is_advisor}


def _imported(name: str) -> Any:
    module, _, member = name.rpartition(".")
    return getattr(importlib.import_module(module), member)
