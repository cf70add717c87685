"""Search strategies: how the operations of a space are chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from nasdistill.growth.budget import Budget
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    from torch import nn

    from nasdistill.data.base import Data
    from nasdistill.search.given import Given
    from nasdistill.search.spaces import SearchSpace
    from nasdistill.training.checkpoints import Checkpoints
    from nasdistill.training.engine import Engine
    from nasdistill.training.records import Records


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    Attributes:
        model: the model that was found, as a recipe writes it: what `registry("models").parse` takes.
        history: `{"curves": {name: [[epochs done, value], ...]}}` where the strategy learns, plain data; `"found":
            [[epochs done, model], ...]` tells what would have been found then, which is judged in the end; where it
            counts something else than epochs, `"found_x"` says what, e.g. `trial`, the number of the last one.
        metrics: numbers for the results table, e.g. `samples_per_second`.
        decisions: the edges of `decisions.json` where a search tells how decided each is, plain data.
        trials: the content of `trials.json` where architectures were tried one by one, plain data.
        hand_over: gives a network of the model the weights that the search trained, where it can keep them.
        strengths: where operations of cells are weighed against each other, the weight of each in the end: by kind of
            cell for each edge, in the order of `CellSpace.edges`, by operation.
    """

    model: dict[str, Any]
    history: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    trials: dict[str, Any] = field(default_factory=dict)
    hand_over: Callable[[nn.Module], None] | None = field(default=None, compare=False)
    strengths: dict[str, list[dict[str, float]]] = field(default_factory=dict)


class Strategy(Component):
    """Base of all search strategies."""

    has_supernet: ClassVar[bool] = False
    """Whether its last checkpoint is that of a supernet, which more epochs can go on with."""

    budget: Budget | None = Field(
        None, description="what the found network may cost, as of the stage `search`, which may give it in its place"
    )

    def within_budget(self, model: dict[str, Any], data: Data) -> dict[str, Any]:
        """A model of the space, as a recipe writes it, scaled to the budget where there is one.

        Raises:
            OverBudget: its smallest network is too large.
        """
        from nasdistill.models.base import NetworkSpec

        if self.budget is None:
            return model
        found: dict[str, Any] = self.budget.fitted(NetworkSpec.for_data(model, data)).model.spec()
        return found

    def compared(self, space: SearchSpace, chosen: Mapping[str, Any], data: Data) -> dict[str, Any]:
        """The model by which an architecture is compared to others: of the budget's size, else as the space says.

        Raises:
            OverBudget: its smallest network is too large.
        """
        return space.proxy(chosen) if self.budget is None else self.within_budget(space.model(chosen), data)

    def reason_to_have_no_epochs(self) -> str | None:
        """Why the stage `search` cannot give its option `epochs`, to follow its name, or None if it can."""
        return None if "epochs" in type(self).model_fields else "has no epochs"

    def reason_to_refuse(self, space: SearchSpace) -> str | None:
        """Why this strategy cannot search `space`, to follow a colon, or None if it can."""
        return None

    def check_installed(self) -> None:
        """Before anything runs.

        Raises:
            UserError: what it needs is not installed.
        """

    def reason_to_keep_no_weights(self, space: SearchSpace) -> str | None:
        """Why it cannot hand weights over to the network that it finds, to follow a colon, or None if it can."""
        return "it trains none that fit the network"

    def search(
        self,
        space: SearchSpace,
        data: Data,
        engine: Engine,
        seed: int,
        checkpoints: Checkpoints | None = None,
        records: Records | None = None,
    ) -> SearchResult:
        """Search `space` on the training images of `data`; goes on from `checkpoints` if there are any.

        The validation and the test images stay unseen: they are for evaluating what was found.

        Args:
            checkpoints, records: where it saves its state and logs its progress; a notebook needs neither.
        """
        from nasdistill.search.given import Given
        from nasdistill.training.checkpoints import Checkpoints
        from nasdistill.training.records import Records

        checkpoints, records = checkpoints or Checkpoints(), records or Records(title="search")
        return self.find(Given(space, data, engine, seed, checkpoints, records, self.within_budget))

    def find(self, given: Given) -> SearchResult:
        """What `search` does; a strategy writes this."""
        raise NotImplementedError(type(self).__name__)


STRATEGIES: Registry[Strategy] = Registry("strategies", Strategy, "nasdistill.search.strategies")
