"""What every trial of an experiment is told: plain data beside the recipe, in a folder that nni takes to them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nasdistill.errors import DamagedFile
from nasdistill.ledger import Ledger
from nasdistill.recipes.experiment import Metric
from nasdistill.recipes.source import dump
from nasdistill.recipes.varied import Varied
from nasdistill.storage import read_sealed, sealed, sha256_of_json

PLAN_FOLDER = "plan"
"""Below the experiment's."""
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
        directory: where the experiment was started; paths that no recipe holds, as that of `data/`, start there if it
            exists.
        stage: the stage whose metric counts.
        budget_key: takes the budget of a trial.
        threads: per trial on this machine; None leaves it to torch.
        until: in seconds since 1970, when no trial begins any more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    out: str
    remote: str
    directory: str
    vary: dict[str, Varied]
    stage: str
    metric: Metric
    budget_key: str | None
    attempts: int
    threads: int | None
    until: float | None = None

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values for the recipe from the parameters that nni hands a trial."""
        found = {key: varied.value(given[key]) for key, varied in self.vary.items()}
        if self.budget_key is not None:
            found[self.budget_key] = round(given[BUDGET])
        return found

    def write(self, folder: Path, recipe: Mapping[str, Any], plugins: Sequence[str], files: Mapping[str, Path]) -> None:
        """Write the plan, the recipe as plain data, and copies of its plugins' files by their names here."""
        ledger = Ledger(folder)
        for name, file in files.items():
            ledger.write(name, file.read_text())
        ledger.write(RECIPE, dump({**recipe, "plugins": list(plugins)} if plugins else recipe))
        ledger.write(PLAN, sealed(self.model_dump(mode="json")))


def read_plan(folder: Path) -> Plan:
    """Read what `Plan.write` wrote.

    Raises:
        DamagedFile: it is something else.
    """
    try:
        return Plan.model_validate(read_sealed(folder / PLAN))
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{folder / PLAN} is no plan of an experiment: {error}") from None


def digest_of(values: Mapping[str, Any]) -> str:
    """The name of the trial with these values: equal values are one trial, whoever suggested them how often."""
    return sha256_of_json(dict(values))[:10]


def new_experiment_name() -> str:
    """One that no other experiment has; nni takes letters and digits."""
    return f"nd{uuid.uuid4().hex[:10]}"
