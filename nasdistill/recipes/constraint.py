"""What the trials of an experiment may cost, written `parameters<=300k`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from nasdistill.errors import SpecError, unknown
from nasdistill.numerals import quantity

Cost = Literal["parameters", "multiply_adds", "bytes", "latency_ms", "seconds"]
COSTS: tuple[Cost, ...] = get_args(Cost)
"""What a finished stage tells of its network, and the seconds that the stage took."""

_WRITTEN = re.compile(r"\s*([A-Za-z_]+)\s*(<=|>=)\s*(.+?)\s*")


@dataclass(frozen=True)
class Constraint:
    """A limit on one of `COSTS`."""

    cost: str
    at_most: bool
    limit: float

    @classmethod
    def read(cls, text: str) -> Constraint:
        """A constraint from text such as `latency_ms<=5`.

        Raises:
            SpecError: it is none.
        """
        written = _WRITTEN.fullmatch(text)
        limit = quantity(written[3]) if written else None
        if written is None or limit is None or limit <= 0:
            raise SpecError(f"{text!r} is no constraint: write it as parameters<=300k, latency_ms<=5, bytes>=1MB")
        if written[1] not in COSTS:
            raise SpecError(unknown("cost", written[1], COSTS))
        return cls(written[1], written[2] == "<=", limit)

    def violation(self, costs: Mapping[str, float]) -> float:
        """By how much of the limit it is missed; nothing or less where it is kept."""
        share = costs[self.cost] / self.limit - 1
        return share if self.at_most else -share
