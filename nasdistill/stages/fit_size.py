"""Stage `fit-size`: scale a network to a budget, without any search."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from nasdistill.errors import SpecError, found_at
from nasdistill.growth.budget import Budget, reason_not_to_scale
from nasdistill.stages.base import STAGES, Context, Inputs, Like, Outcome, Reference, Specs, Stage
from nasdistill.stages.networks import network_for_data, spec_for_data

if TYPE_CHECKING:
    from nasdistill.models.base import NetworkSpec

log = logging.getLogger(__name__)


@STAGES.register("fit-size")
class FitSize(Stage):
    """Scale the widths of a network, so that it becomes the largest one that keeps a budget.

    All widths change alike. Blocks are taken away only where the network would be too narrow otherwise. The result is
    an architecture without weights.
    """

    source: ClassVar[str] = "the width multiplier of Howard et al. 2017, MobileNets (arXiv:1704.04861), section 3.3"
    makes: ClassVar[str] = "architecture"

    network: Annotated[str | dict[str, Any], Reference("architecture", or_model=True)] = Field(
        examples=["wrn-16-1"],
        description="what is scaled: a model such as wrn-16-1, a stage, or an artifact's folder",
    )
    budget: Budget = Field(
        examples=["300k"],
        description="what it may cost: parameters alone as 300k, else e.g. {multiply_adds: 20M, latency_ms: 5}",
    )
    narrowest: int = Field(
        8, gt=0, description="channels of the first blocks below which blocks are taken away instead, while there are"
    )

    def foresee(self, specs: Specs, context: Context) -> NetworkSpec | Like | None:
        spec = spec_for_data("network", self.network, specs, context)
        if spec is None:
            return None
        self._check(spec)
        with found_at("budget"):
            return Like(self.budget.fitted(spec, self.narrowest))

    def _check(self, spec: NetworkSpec) -> None:
        if (reason := reason_not_to_scale(spec)) is not None:
            raise SpecError(reason, ("network",))

    def run(self, inputs: Inputs, context: Context) -> Outcome:
        from nasdistill.models.base import Network, save_network
        from nasdistill.models.inspection import described

        spec, _network = network_for_data("network", self.network, inputs, context)
        self._check(spec)
        with found_at("budget"):
            found, needs = self.budget.settled(spec, self.narrowest)
        log.info("it keeps the budget: %s", self.budget.kept(needs))
        network = found.build()
        save_network(context.folder, found, None)
        return Outcome({"budget": needs, **described(network, found.reads)}, Network(found, network, trained=False))
