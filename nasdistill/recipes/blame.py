"""Whose mistake an unexpected error is: a plug-in's is named with stage, file and line."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasdistill.closure import PLUGIN_FOLDER
from nasdistill.errors import Interrupted, ProcessLost, UserError, written_at
from nasdistill.registry import loaded
from nasdistill.stages import Outcome, Stage
from nasdistill.training.processes import world_size


@contextmanager
def blaming_plugins(name: str, stage: Stage) -> Iterator[None]:
    """Whatever breaks unexpectedly inside the code of a plug-in while this stage runs becomes a sentence.

    What the machine lacks is told elsewhere, and so is the loss of one of several processes, which breaks anything.

    Raises:
        UserError: in place of the error, with the innermost line of the plug-in.
    """
    import torch

    try:
        yield
    except (UserError, Interrupted, ProcessLost, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        place = None if world_size() > 1 else _innermost_in_a_plugin(error)
        if place is None:
            raise
        told = f"{type(error).__name__}: {error}".rstrip(": ")
        raise UserError(
            f"the stage {name!r} ({stage.registered_name}) broke in a plug-in, at {place}: {told}; --debug shows the "
            "traceback"
        ) from error


def checked(outcome: object, name: str, stage: Stage) -> Outcome:
    """What a stage handed back, if it is what the contract says.

    Raises:
        UserError: it is no `Outcome`, its metrics are not plain data, or a promised validation score is missing.
    """
    who = f"the stage {name!r} ({stage.registered_name}, {written_at(type(stage))})"
    if not isinstance(outcome, Outcome):
        raise UserError(f"{who} must return an Outcome, got {type(outcome).__name__}")
    try:
        json.dumps(outcome.metrics)
    except (TypeError, ValueError) as error:
        raise UserError(f"{who} must return metrics that are plain data: {error}") from None
    if stage.is_scored() and not {"score", "loss"} <= set(outcome.metrics.get("validation") or ()):
        raise UserError(f"{who} promises a validation score, but its metrics hold no validation.score and .loss")
    return outcome


def _innermost_in_a_plugin(error: Exception) -> str | None:
    modules = {each.__module__ for each in loaded() if not each.__module__.startswith("nasdistill.")}
    lines = [
        f"{Path(frame.f_code.co_filename)}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if (name := frame.f_globals.get("__name__", "")) in modules or name.startswith(PLUGIN_FOLDER)
    ]
    return lines[-1] if lines else None
