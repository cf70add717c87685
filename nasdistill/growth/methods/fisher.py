"""Growing where the loss depends most on the channels."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from nasdistill.growth.importance import Batches, Read, cell_importance, estimate_statistics, is_trained
from nasdistill.growth.methods import GROWTH_METHODS, Grown, GrowthMethod
from nasdistill.growth.plan import Budget, Target, channel_costs, growable, next_step, record, with_options
from nasdistill.growth.widening import widen
from nasdistill.models.base import NetworkSpec
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine
from nasdistill.training.records import Records

log = logging.getLogger(__name__)

Per = Literal["cell", "channel", "parameter", "multiply-add"]
COST: dict[Per, Budget] = {"parameter": "params", "multiply-add": "flops"}


@GROWTH_METHODS.register("fisher")
class Fisher(GrowthMethod):
    """Widens the cell whose channels have the highest Fisher scores by a step, scores again, and so on.

    The weights are carried along by function-preserving widening, so each scoring sees the grown network. Two copies
    of a channel share its gradient and so have half its score together: a cell that grew r times is left with about
    1/r of its score, so growth moves on to other cells until all scores are alike.
    """

    source: ClassVar[str] = "scores of Theis et al. 2018, Fisher pruning; growth by Net2Wider, Chen et al. 2016"

    read: Read = Field(
        "output",
        description="where channels are scored: at the cell's concatenated output, or after each batch norm inside it",
    )
    per: Per = Field(
        "cell",
        description="a cell's score: the sum over its channels, their mean, "
        "or that mean over what one more channel costs in parameters or multiply-adds",
    )
    step: float = Field(0.2, gt=0, le=1, description="channels that a step adds, as a fraction of the cell's")
    rescore: int = Field(1, gt=0, description="score again after so many steps")
    widest: float = Field(4.0, gt=1, description="no cell grows beyond so many times its width in the student")
    noise: float = Field(
        1e-3,
        ge=0,
        description="what tells copied weights from their source, as a fraction of the weight's standard deviation",
    )

    def grow(
        self,
        spec: NetworkSpec,
        network: nn.Module,
        batches: Batches,
        engine: Engine,
        seed: int,
        checkpoints: Checkpoints,
        records: Records,
    ) -> Grown:
        target = Target.for_student(spec, self.budget, self.ratio, self.tolerance)
        widest = [int(self.widest * width) for width in growable(spec).cell_widths()]
        generator = torch.Generator().manual_seed(seed)
        steps: list[dict[str, Any]] = []
        before: list[float] = []
        scores: list[float] = []
        done = False
        state = checkpoints.load()
        if state is not None:
            spec, network = _rebuilt(spec, state)
            steps, before, scores, done = state["steps"], state["before"], state["scores"], state["done"]
            generator.set_state(state["generator"])
        else:
            network = copy.deepcopy(network)
            if not is_trained(network):
                estimate_statistics(network, batches, engine)

        def capture() -> dict[str, Any]:
            return {
                "widths": growable(spec).cell_widths(),
                "weights": network.state_dict(),
                "generator": generator.get_state(),
                "steps": steps,
                "before": before,
                "scores": scores,
                "done": done,
            }

        while not done:
            if len(steps) % self.rescore == 0:
                scores = self._scores(spec, cell_importance(network, self.read, batches, engine))
                before = before or scores
                records.scalars({f"importance/cell_{cell}": score for cell, score in enumerate(scores)}, len(steps))
            order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
            step = next_step(spec, target, order, self.step, widest)
            if step is None:
                break
            width = growable(step.spec).cell_widths()[step.cell]
            spec, network = widen(spec, network, step.cell, width, noise=self.noise, generator=generator)
            done = step.last
            steps.append({"cell": step.cell, **record(spec, target), "importance": scores})
            log.info("cell %d has %d channels now; %.3f times the student", step.cell, width, steps[-1]["ratio"])
            checkpoints.step(len(steps), capture)
        target.checked(spec, f"widening cells up to {self.widest:g} times")
        after = self._scores(spec, cell_importance(network, self.read, batches, engine))
        return Grown(spec, steps, {"before": before, "after": after})

    def _scores(self, spec: NetworkSpec, importance: Sequence[torch.Tensor]) -> list[float]:
        """One number per cell of what its channels' Fisher scores are."""
        if self.per == "cell":
            return [channels.sum().item() for channels in importance]
        means = [channels.mean().item() for channels in importance]
        if self.per == "channel":
            return means
        return [mean / cost for mean, cost in zip(means, channel_costs(spec, COST[self.per]), strict=True)]


def _rebuilt(spec: NetworkSpec, state: dict[str, Any]) -> tuple[NetworkSpec, nn.Module]:
    """The grown spec and network of a checkpoint."""
    spec = with_options(spec, widths=tuple(state["widths"]))
    with torch.device("meta"):
        network = spec.build()
    network.load_state_dict(state["weights"], assign=True)
    return spec, network
