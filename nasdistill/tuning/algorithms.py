"""nni's tuners and assessors by name, checked before an experiment starts."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Literal

from nasdistill.errors import SpecError, unknown

REFUSED = {
    "PPO": "it draws networks of nni's own, not values of a recipe",
    "RegularizedEvolutionTuner": "it draws networks of nni's own; Evolution is for values",
    "NetworkMorphism": "it draws networks of nni's own, not values of a recipe",
    "PBT": "it copies weights from one trial into another, where each trial here is a run of its own",
    "Batch": "it takes one list of combinations; nasdistill run --sweep does that",
}
INSTALLS = {"hyperopt": "nni[Anneal]", "smac": "nni[SMAC]", "ConfigSpace": "nni[BOHB]", "pybnn": "nni[DNGO]"}
"""What to install, by the module that is missing."""


def algorithm(
    kind: Literal["tuner", "assessor"], wanted: str | Mapping[str, Any], higher_is_better: bool, seed: int
) -> dict[str, Any]:
    """A tuner or assessor as nni's config names it: `name`, `classArgs`, and `budgets`, whether it hands out budgets.

    The direction, and the seed where it takes one, are added to what is given.

    Raises:
        SpecError: unknown, not for recipes, without what it needs, or with options that it has not.
    """
    from nni.tools.package_utils.config_manager import get_all_algo_meta

    options = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    name = options.pop("name", None)
    known = {meta.name: meta for meta in get_all_algo_meta() if meta.algo_type == kind}
    if name in REFUSED and kind == "tuner":
        raise SpecError(f"{name} is no tuner for a recipe: {REFUSED[name]}")
    if name not in known:
        raise SpecError(unknown(kind, str(name), set(known) - set(REFUSED)))
    module, _, cls = known[name].class_name.rpartition(".")
    try:
        accepted = inspect.signature(getattr(importlib.import_module(module), cls)).parameters
    except ModuleNotFoundError as error:
        missing = str(error.name)
        raise SpecError(f"{name} needs {missing}: pip install '{INSTALLS.get(missing, missing)}'") from None
    for option in options:
        if option not in accepted or option == "optimize_mode":
            raise SpecError(unknown(f"option of {name}", option, set(accepted) - {"optimize_mode"}), (option,))
    implied = {"optimize_mode": "maximize" if higher_is_better else "minimize", "seed": seed}
    arguments = {**{key: value for key, value in implied.items() if key in accepted}, **options}
    return {"name": name, "classArgs": arguments or None, "budgets": known[name].is_advisor}
