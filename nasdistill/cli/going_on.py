"""What a command need not repeat that goes on with an earlier run, e.g. `search --resume-from runs/search`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESUME_FROM = "resume_from"


@dataclass(frozen=True)
class Begun:
    """How an artifact was made, as far as it is not said anew.

    Attributes:
        options: of its stage, all but until when it ran.
        settings: of its recipe: `seeds` and, where its run's recipe is at hand, `data` and `engine`.
    """

    options: dict[str, Any]
    settings: dict[str, Any]


def as_begun(folder: Path) -> Begun:
    """How the artifact in a folder was made, or the one architecture that the run in it made.

    Raises:
        UserError: there is none, or the run made several.
    """
    from nasdistill.artifacts import open_artifact
    from nasdistill.errors import UserError
    from nasdistill.recipes.graph import artifact_in
    from nasdistill.recipes.place import RECIPE, UNFINISHED
    from nasdistill.recipes.source import read_source

    found = artifact_in(folder, "architecture").resolve()
    if (found / UNFINISHED).is_file():
        raise UserError(f"--resume-from: the run in {folder} is not done; the command that began it goes on with it")
    manifest = open_artifact(found, verify=False).manifest
    options = {name: value for name, value in manifest.config.items() if name not in ("epochs", RESUME_FROM)}
    options["strategy"] = {name: value for name, value in options["strategy"].items() if name != "epochs"}
    recipe = found.parents[1] / RECIPE
    before = read_source(recipe).data if recipe.is_file() else {}
    settings = {name: before[name] for name in ("data", "engine") if name in before}
    return Begun(options, {**settings, "seeds": [manifest.seed]})
