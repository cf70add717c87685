"""Options by keyword that are a config's fields, written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from pydantic import Field, field_validator

from nasdistill.component import LARGEST_SEED
from nasdistill.distill.function import objective_of
from nasdistill.distill.objectives import Objective
from nasdistill.errors import SpecError, UserError
from nasdistill.stages.distill import DistillOptions
from nasdistill.stages.evaluate import EvaluateOptions
from nasdistill.stages.fine_tune import FineTuneOptions
from nasdistill.stages.grow_teacher import GrowOptions
from nasdistill.stages.search import SearchOptions
from nasdistill.stages.shrink import ShrinkOptions
from nasdistill.stages.train import TrainOptions
from nasdistill.stages.zero_shot import ZeroShotOptions
from nasdistill.training.engine import DeviceSettings
from nasdistill.validation import build

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
R = TypeVar("R")
O = TypeVar("O", bound="Settings")  # noqa: E741
P = ParamSpec("P")


class Settings(DeviceSettings):
    """Options of every function."""

    seed: int | None = Field(
        None, ge=0, le=LARGEST_SEED, description="decides weights and order; that of the data if left out"
    )
    folder: Path | None = Field(None, description="keep checkpoints, curves and the payload here")
    quiet: bool = Field(False, description="show no progress bar")


class SearchSettings(Settings, SearchOptions):
    pass


class TrainSettings(Settings, TrainOptions):
    pass


class FineTuneSettings(Settings, FineTuneOptions):
    pass


class GrowSettings(Settings, GrowOptions):
    pass


class ShrinkSettings(Settings, ShrinkOptions):
    pass


class EvaluateSettings(Settings, EvaluateOptions):
    pass


class DistilSettings(Settings, DistillOptions):
    @field_validator("objectives", mode="before")
    @classmethod
    def _functions_are_objectives(cls, given: Any) -> Any:
        listed = given if isinstance(given, list | tuple) else [given]
        return [objective_of(each) if callable(each) and not isinstance(each, Objective) else each for each in listed]


class TransferSettings(Settings, ZeroShotOptions):
    data: Any = Field(None, description="what `load_data` gave: the accuracy along the way is that on its test images")


class takes_options(Generic[P, O]):
    """Give a function the fields of a config as its keyword options, for type checkers, help and at run time."""

    def __init__(self, config: Callable[P, O]) -> None:
        self.config = cast(type[O], config)

    @overload
    def __call__(self, function: Callable[[A, B, O], R]) -> Callable[Concatenate[A, B, P], R]: ...
    @overload
    def __call__(self, function: Callable[[A, B, C, O], R]) -> Callable[Concatenate[A, B, C, P], R]: ...
    def __call__(self, function: Callable[..., R]) -> Callable[..., R]:
        signature = inspect.signature(function)
        given = [each.replace(kind=each.POSITIONAL_ONLY) for each in list(signature.parameters.values())[:-1]]
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=info.default, annotation=info.annotation)
            for name, info in self.config.model_fields.items()
        ]

        def called(*values: Any, **chosen: Any) -> R:
            if len(values) != len(given):
                names = ", ".join(each.name for each in given)
                raise TypeError(f"{function.__name__}() takes {names} by position, and options by name")
            try:
                return function(*values, build(self.config, chosen))
            except SpecError as error:
                place = [function.__name__, *([".".join(map(str, error.path))] if error.path else [])]
                raise UserError(": ".join([*place, error.problem])) from None

        called.__name__, called.__doc__, called.__module__ = function.__name__, function.__doc__, function.__module__
        called.__qualname__ = function.__qualname__
        called.__signature__ = signature.replace(parameters=[*given, *options])  # type: ignore[attr-defined]
        called.options = self.config  # type: ignore[attr-defined]
        return called
