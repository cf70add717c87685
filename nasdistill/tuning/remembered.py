"""What a call of `tune` leaves for the next one: which experiment a folder holds, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nasdistill.errors import DamagedFile, UserError
from nasdistill.ledger import Ledger
from nasdistill.recipes.loading import Recipe
from nasdistill.storage import json_text, read_json
from nasdistill.tuning.plan import new_experiment_name

FILE = "tune.json"
FREE = ("trials", "concurrency", "duration", "trial_duration", "attempts")
"""Settings that may change while an experiment goes on."""


@dataclass
class Remembered:
    """The experiment of a folder.

    Attributes:
        recipe: what of the recipe makes the experiment what it is.
        experiment: its name for nni.
        started: when, in ISO 8601.
        seconds: that all calls took so far.
        running: whether trials may be left from a call that did not come to its end.
        manager: the `port` and the `process` of nni's manager; None before it first started, and when all has ended.
    """

    recipe: dict[str, Any]
    experiment: str = field(default_factory=new_experiment_name)
    started: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    seconds: float = 0.0
    running: bool = False
    manager: dict[str, int] | None = None

    @classmethod
    def of(cls, recipe: Recipe, engine: str, out: Path) -> Remembered:
        """What an earlier call left in `out`, or a new experiment.

        Raises:
            UserError: it was for another experiment.
            DamagedFile: it is something else.
        """
        lasting = _lasting(recipe, engine)
        if not (out / FILE).is_file():
            return cls(lasting)
        Ledger(out).check(FILE)
        try:
            earlier = cls(**read_json(out / FILE))
        except TypeError:
            raise DamagedFile(f"{out / FILE} is damaged: it is no state of an experiment") from None
        different = _differences(earlier.recipe, lasting)
        if different:
            raise UserError(
                f"{out} holds an experiment with other settings ({', '.join(different[:3])}"
                f"{', ...' if len(different) > 3 else ''}), and trials of both would not compare; "
                f"choose another folder with --out (only {', '.join(FREE)} may change)"
            )
        return earlier

    def write(self, out: Path) -> None:
        Ledger(out).write(FILE, json_text(asdict(self)))


def _lasting(recipe: Recipe, engine: str) -> dict[str, Any]:
    data: dict[str, Any] = dict(recipe.source.data)  # as it is written: a folder may be moved
    kept = {key: value for key, value in (data.get("tune") or {}).items() if key not in FREE}
    data["tune"] = {**kept, "engine": engine}  # also where it is the default, which may change
    return data


def _differences(one: Any, other: Any, at: str = "") -> list[str]:
    """The keys at which two documents differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys([*one, *other])
        return [found for key in keys for found in _differences(one.get(key), other.get(key), f"{at}.{key}".strip("."))]
    return [] if one == other else [at or "the recipe"]
