"""What a search is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nasdistill.models.base import NetworkSpec
from nasdistill.models.inspection import count_parameters
from nasdistill.search.phases import Phases
from nasdistill.storage import sha256_of_json

if TYPE_CHECKING:
    from nasdistill.data.base import Data
    from nasdistill.search.spaces import SearchSpace
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine
    from nasdistill.training.records import Records


@dataclass(frozen=True)
class Given:
    """What a strategy is given to search by, and what an architecture is in it: by label the index of its alternative.

    Attributes:
        data: of which it sees the training images alone.
        checkpoints: where it saves its state, and goes on from if there are any.
        records: where it logs its progress.
        within_budget: see `Strategy.within_budget`.
    """

    space: SearchSpace
    data: Data
    engine: Engine
    seed: int
    checkpoints: Checkpoints
    records: Records
    within_budget: Callable[[dict[str, Any], Data], dict[str, Any]]

    @cached_property
    def choices(self) -> dict[str, tuple[Any, ...]]:
        """By label the alternatives of the space."""
        return self.space.choices(self.data.shape, len(self.data.classes))

    @cached_property
    def phases(self) -> Phases:
        """For a search of several loops, in place of `checkpoints`."""
        return Phases(self.checkpoints)

    @property
    def alternatives(self) -> dict[str, int]:
        """By label how many there are, where there is a choice."""
        return {label: len(each) for label, each in self.choices.items() if len(each) > 1}

    def chosen(self, architecture: Mapping[str, int]) -> dict[str, Any]:
        return {label: each[architecture.get(label, 0)] for label, each in self.choices.items()}

    def architecture(self, chosen: Mapping[str, Any]) -> dict[str, int]:
        return {label: self.choices[label].index(chosen[label]) for label in self.alternatives}

    def model(self, architecture: Mapping[str, int]) -> dict[str, Any]:
        """Within the budget.

        Raises:
            OverBudget: its smallest network is too large.
        """
        return self.within_budget(self.space.model(self.chosen(architecture)), self.data)

    def parameters(self, architecture: Mapping[str, int]) -> int:
        return count_parameters(NetworkSpec.for_data(self.model(architecture), self.data).build())

    def identity(self, architecture: Mapping[str, int]) -> str:
        return sha256_of_json(self.space.canonical(self.chosen(architecture)))
