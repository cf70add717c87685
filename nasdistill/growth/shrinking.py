"""Shrinking: the channels that matter least leave a trained network, and all others keep their weights."""

from __future__ import annotations

import copy
import logging
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from nasdistill.errors import UserError
from nasdistill.growth.coupling import groups_of
from nasdistill.growth.criteria import Criterion
from nasdistill.growth.importance import estimate_statistics, read_by_layers
from nasdistill.growth.methods.fisher import COST
from nasdistill.growth.plan import channel_costs, reason_not_to_rebuild, size, why_fixed, widths_of, with_model
from nasdistill.growth.student import Student
from nasdistill.growth.widening import carried
from nasdistill.models.base import NetworkSpec
from nasdistill.models.channels import ChannelGroup
from nasdistill.models.with_widths import WithWidths

log = logging.getLogger(__name__)

LEAST = 2
"""Channels that a group keeps at least: a depthwise convolution of one channel is a plain one, and grows otherwise."""

UNUSED = 0.02
"""Share of what a network may cost that need not be used."""

Usage = Callable[[NetworkSpec], float]
"""How much a network costs, as a share of what it may."""


@dataclass(frozen=True)
class Shrunk:
    """A smaller network, and how it came about.

    Attributes:
        units: names of the groups that could lose channels.
        before: their widths before.
        steps: one mapping a round (`widths` and `importance` of the units, `parameters`, `multiply_adds`), plain data.
    """

    spec: NetworkSpec
    network: nn.Module
    units: list[str]
    before: list[int]
    steps: list[dict[str, Any]]

    def told(self) -> dict[str, Any]:
        """All but the network, as the report reads it."""
        return {
            "steps": self.steps,
            "units": self.units,
            "widths": {"before": self.before, "after": self.steps[-1]["widths"]},
            "importance": {"before": self.steps[0]["importance"]},
        }


def with_groups(spec: NetworkSpec) -> NetworkSpec:
    """The same network's spec with the model `with-widths`, whose units are the groups of channels.

    Raises:
        UserError: no group can lose channels.
    """
    model, reason = spec.model, reason_not_to_rebuild(spec, "shrink")
    if reason is not None:
        raise UserError(reason)
    if not isinstance(model, WithWidths):
        model = WithWidths.of(model, spec.shape)
    if not model.groups():
        raise UserError(f"no channels of {spec.model.registered_name!r} can leave{why_fixed(spec)}")
    return with_model(spec, model)


def narrowest(spec: NetworkSpec, least: float) -> dict[str, int]:
    """The fewest channels that each group of a network keeps, by its name.

    Args:
        spec: of `with_groups`.
        least: as a fraction of its channels.
    """
    return {name: min(width, max(LEAST, math.ceil(least * width))) for name, width in widths_of(spec).items()}


def shrink(
    student: Student,
    criterion: Criterion,
    usage: Usage,
    *,
    least: float = 0.1,
    rounds: int = 1,
    alike: bool = False,
    estimate: bool = False,
) -> Shrunk:
    """Take channels out of a network until it costs no more than it may.

    A round scores them anew, and takes out as many as reach its share of the way, the same factor for each round.
    The student's network stays as it is.

    Args:
        student: its spec is one of `with_groups`.
        usage: falls with every channel that leaves.
        least: see `narrowest`.
        alike: each group loses the same share of its channels; else the network loses those that matter least in all.
        estimate: give batch norms the statistics of the student's images after each round.
    """
    few, begin = narrowest(student.spec, least), usage(student.spec)
    units = [group.name for group in groups_to_shrink(student.spec, student.network)]
    before = widths_of(student.spec)
    steps: list[dict[str, Any]] = []
    state = student.checkpoints.load()
    if state is None:
        student = replace(student, network=copy.deepcopy(student.network))
    else:
        spec = with_model(student.spec, student.spec.model.with_widths(state["widths"]))
        student, steps = student.restored(spec, state["weights"]), state["steps"]

    def capture() -> dict[str, Any]:
        return {"widths": widths_of(student.spec), "weights": student.network.state_dict(), "steps": steps}

    while len(steps) < rounds:
        scores = _scores(criterion, student)
        allowed = begin ** (1 - (len(steps) + 1) / rounds)
        order = _order(student.spec, scores, criterion, few, alike)
        spec = _first_within(student.spec, order, usage, allowed)
        student = replace(student, spec=spec, network=without_lowest(student.spec, student.network, spec, scores))
        if estimate:
            estimate_statistics(student.network, student.batches, student.engine)
        widths = widths_of(spec)
        steps.append(
            {
                "parameters": size(spec, "params"),
                "multiply_adds": size(spec, "flops"),
                "widths": [widths[unit] for unit in units],
                "importance": [scores[unit].mean().item() for unit in units],
            }
        )
        log.info("round %d of %d: %d parameters", len(steps), rounds, steps[-1]["parameters"])
        student.checkpoints.step(len(steps), capture)
    return Shrunk(student.spec, student.network, units, [before[unit] for unit in units], steps)


def without_lowest(
    spec: NetworkSpec, network: nn.Module, narrower: NetworkSpec, scores: Mapping[str, torch.Tensor]
) -> nn.Module:
    """The network of fewer channels: those of the highest scores, in their order, with their weights."""

    def kept(group: ChannelGroup, width: int) -> torch.Tensor:
        return scores[group.name].argsort(stable=True)[group.width - width :].sort().values

    return carried(spec, network, narrower, sources=kept)


def groups_to_shrink(spec: NetworkSpec, network: nn.Module) -> list[ChannelGroup]:
    """The groups that can lose channels and whose channels are read by layers alone."""
    units = widths_of(spec)
    return [group for group in groups_of(spec) if group.name in units and read_by_layers(network, group)]


def _scores(criterion: Criterion, student: Student) -> dict[str, torch.Tensor]:
    """The criterion's scores on the CPU.

    Raises:
        UserError: they are not one finite number for each channel; names the criterion.
    """
    groups = groups_to_shrink(student.spec, student.network)
    found = criterion.scores(student, groups)
    for group in groups:
        scores = found.get(group.name)
        if scores is None or scores.shape != (group.width,) or not scores.isfinite().all():
            raise UserError(
                f"the criterion {criterion.registered_name!r} must score each of the {group.width} channels of "
                f"{group.name!r} with a finite number"
            )
    return {group.name: found[group.name].detach().double().cpu() for group in groups}


def _order(
    spec: NetworkSpec, scores: Mapping[str, torch.Tensor], criterion: Criterion, few: Mapping[str, int], alike: bool
) -> list[str]:
    """For each channel that may leave, the first to leave first, the name of its group."""
    costs = channel_costs(spec, COST[criterion.per]) if criterion.per in COST else dict.fromkeys(scores, 1.0)
    ranked = []
    for name, values in scores.items():
        width = len(values)
        for rank, score in enumerate(values.sort().values.tolist()[: width - few[name]]):
            ranked.append(((rank + 0.5) / width if alike else score / costs[name], name))
    return [name for _key, name in sorted(ranked, key=lambda each: each[0])]


def _first_within(spec: NetworkSpec, order: Sequence[str], usage: Usage, allowed: float) -> NetworkSpec:
    """`spec` without as many of the first channels of `order` as it takes to cost no more than is allowed.

    Where the last one leaves too much of that unused, it stays, and the next ones of the order leave that are cheaper.
    """
    widths = widths_of(spec)

    def without(leaving: Sequence[str]) -> NetworkSpec:
        counts = Counter(leaving)
        return with_model(spec, spec.model.with_widths({name: widths[name] - by for name, by in counts.items()}))

    count = bisect_left(range(len(order)), True, key=lambda number: usage(without(order[:number])) <= allowed)
    if count == 0:
        return spec
    leaving, found = list(order[: count - 1]), None
    for name in order[count - 1 :]:
        narrower = without([*leaving, name])
        if usage(narrower) > allowed:
            leaving.append(name)
        elif found is None or usage(narrower) > usage(found):
            found = narrower
        if found is not None and usage(found) >= (1 - UNUSED) * allowed:
            break
    return found or without(leaving)
