"""What an experiment varies: values of a recipe's keys as distributions, written `loguniform(10, 3000)`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from nasdistill.component import Options
from nasdistill.errors import SpecError, UserError, unknown
from nasdistill.paths import Written, starting_at
from nasdistill.recipes.source import parse
from nasdistill.report.points import value_in_words

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "choice": ("value", "value", "..."),
    "uniform": ("low", "high"),
    "loguniform": ("low", "high"),
    "quniform": ("low", "high", "step"),
    "qloguniform": ("low", "high", "step"),
    "randint": ("low", "beyond"),
    "normal": ("mean", "deviation"),
    "lognormal": ("mean", "deviation"),
    "qnormal": ("mean", "deviation", "step"),
    "qlognormal": ("mean", "deviation", "step"),
}
"""nni's distributions by name, with what stands between their parentheses."""

_WRITTEN = re.compile(r"\s*([A-Za-z_]+)\s*\((.*)\)\s*", re.DOTALL)


class Varied(Options):
    """One distribution.

    Attributes:
        arguments: between the parentheses; the values themselves where `kind` is `choice`.
    """

    kind: str
    arguments: tuple[Any, ...]

    @model_validator(mode="after")
    def _check(self) -> Varied:
        if self.kind not in PARAMETERS:
            raise SpecError(unknown("distribution", self.kind, PARAMETERS))
        if self.kind == "choice":
            if not self.arguments:
                raise SpecError("a choice needs a value at least")
            for value in self.arguments:
                if self.arguments.count(value) > 1:
                    raise SpecError(f"the value {value_in_words(value)} stands here twice")
            return self
        wanted = PARAMETERS[self.kind]
        numbers = [value for value in self.arguments if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) != len(self.arguments) or len(numbers) != len(wanted):
            raise SpecError(f"{self.kind} takes numbers as {self.kind}({', '.join(wanted)}), got {self}")
        self._check_numbers(*numbers)
        return self

    def _check_numbers(self, first: float, second: float, step: float = 1.0) -> None:
        if "high" in PARAMETERS[self.kind] or self.kind == "randint":
            if first >= second:
                raise SpecError(f"{self}: low must be below high")
            if "log" in self.kind and first <= 0:
                raise SpecError(f"{self}: low must be positive on a logarithmic scale")
            if self.kind == "randint" and not all(isinstance(value, int) for value in self.arguments):
                raise SpecError(f"{self}: randint takes whole numbers")
        elif second <= 0:
            raise SpecError(f"{self}: the deviation must be positive")
        if step <= 0:
            raise SpecError(f"{self}: the step must be positive")

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(value_in_words, self.arguments))})"

    @property
    def scale(self) -> Literal["linear", "log", "choice"]:
        """How a picture shows the values."""
        return "choice" if self.kind == "choice" else "log" if "log" in self.kind else "linear"

    def search_space(self) -> dict[str, Any]:
        """The entry of nni's search space. Values of a choice that are no plain words or numbers go by their text."""
        values = [self._shown(value) for value in self.arguments] if self.kind == "choice" else list(self.arguments)
        return {"_type": self.kind, "_value": values}

    def value(self, given: Any) -> Any:
        """The value for the recipe that one of nni's values stands for."""
        if self.kind == "choice":
            return next(value for value in self.arguments if self._shown(value) == given)
        whole = self.kind[0] == "q" and all(isinstance(value, int) for value in self.arguments)
        return round(given) if whole or self.kind == "randint" else given

    def examples(self) -> list[Any]:
        """Values to try a recipe with before anything runs: all choices, or both ends and one between, or the mean."""
        if self.kind == "choice":
            return list(self.arguments)
        if self.kind == "randint":
            return [self.arguments[0], self.arguments[1] - 1]
        if "high" not in PARAMETERS[self.kind]:
            return [self.arguments[0]]
        low, high = self.arguments[:2]
        # What lies between whole ends may be no whole number.
        return [low, high, low + (self.arguments[2] if self.kind[0] == "q" else (high - low) / 3.14)]

    @staticmethod
    def _shown(value: Any) -> Any:
        return value if isinstance(value, str | int | float) else value_in_words(value)


def _read(given: Any) -> Any:
    """`Varied` from text such as `uniform(0, 1)`, or from a list, which is a choice."""
    if isinstance(given, list | tuple):
        return {"kind": "choice", "arguments": list(given)}
    if not isinstance(given, str):
        return given
    text = given.strip()
    written = _WRITTEN.fullmatch(f"choice({text[1:-1]})" if text[:1] + text[-1:] == "[]" else text)
    if written is None and "(" in text and ")" not in text:
        raise SpecError(f'{given!r} has no closing bracket; write it, and in YAML quote it all, as in "uniform(0, 1)"')
    if written is None:
        raise SpecError(
            f"{given!r} is no distribution: write it as uniform(0, 1), loguniform(1e-4, 0.1), choice(a, b) or [a, b] "
            f"(known: {', '.join(PARAMETERS)})"
        )
    try:
        start = given.start if isinstance(given, Written) else Path.cwd()
        return {"kind": written[1], "arguments": starting_at(start, parse(f"[{written[2]}]").data)}
    except UserError:
        raise SpecError(f"{given!r}: what stands between the brackets is no list of values") from None


VariedValue = Annotated[Varied, BeforeValidator(_read)]
