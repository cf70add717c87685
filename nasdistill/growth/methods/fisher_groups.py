"""Growing by filters that read more channels, where the loss depends most on them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from nasdistill.growth.methods import GROWTH_METHODS, Grown, GrowthMethod
from nasdistill.growth.plan import Read, record
from nasdistill.growth.student import Student
from nasdistill.models.base import NetworkSpec

Groups = dict[str, int]
"""The number of groups of depthwise layers, by path."""


@GROWTH_METHODS.register("fisher-groups")
class FisherGroups(GrowthMethod):
    """Halves the groups of all depthwise layers in the unit of the highest Fisher score, again and again.

    No layer gets wider. Filters are drawn anew, so scores are those of the student, over the number of channels that
    the unit's filters read by then: growth moves on to other units as it does in `fisher`. The last steps take as many
    of a unit's layers as the ratio allows. Channels that cannot be halved take the next smaller number that divides
    them. A unit without depthwise layers, as a cell that pools, stays as it is.
    """

    source: ClassVar[str] = "code released with Whettam 2020; scores of Theis et al. 2018, Fisher pruning"
    measures: ClassVar[bool] = True
    changes_layers: ClassVar[bool] = True

    read: Read = Field(
        "output",
        description="where channels are scored: at the unit's output, or after each batch norm that they pass",
    )

    def reason_to_refuse(self, spec: NetworkSpec) -> str | None:
        reason = super().reason_to_refuse(spec)
        if reason is not None:
            return reason
        layers = _layers(spec)
        if not layers:
            return f"the model {spec.model.registered_name!r} has no depthwise layers, whose groups could become fewer"
        most = _with(spec, {path: 1 for unit in layers.values() for path in unit})
        return self.target(spec).reason_too_small(most, "one group in each depthwise layer")

    def reason_not_to_carry(self, spec: NetworkSpec) -> str | None:
        return f"{self.registered_name!r} draws the filters of grouped layers anew"

    def grow(self, student: Student) -> Grown:
        from nasdistill.growth.importance import estimate_statistics, is_trained, unit_importance

        spec, target, layers = student.spec, self.target(student.spec), _layers(student.spec)
        network = copy.deepcopy(student.network)
        if not is_trained(network):
            estimate_statistics(network, student.batches, student.engine)
        importance = unit_importance(spec, network, self.read, student.batches, student.engine)
        scores = {unit: channels.sum().item() for unit, channels in importance.items()}
        channels = {path: width for unit in layers.values() for path, width in unit.items()}
        groups, grown = dict(channels), spec
        steps: list[dict[str, Any]] = []

        def score(unit: str) -> float:
            return scores[unit] / max(channels[path] // groups[path] for path in layers[unit])

        def step() -> tuple[str, Groups] | None:
            """Of the first unit that can come nearer, as many layers as are not too much."""
            for unit in sorted(layers, key=score, reverse=True):
                paths = [path for path in layers[unit] if groups[path] > 1]
                for number in range(len(paths), 0, -1):
                    fewer = groups | {path: halved(channels[path], groups[path]) for path in paths[:number]}
                    if target.ratio_of(_with(spec, fewer)) <= target.ratio * (1 + target.tolerance):
                        return unit, fewer
            return None

        while not target.reached(grown) and (found := step()):
            unit, groups = found
            grown = _with(spec, {path: number for path, number in groups.items() if number < channels[path]})
            changed = {path: groups[path] for path in layers[unit]}
            steps.append({"unit": unit, **record(grown, target), "groups": changed})
        target.checked(grown, "fewer groups in depthwise layers")
        return Grown(grown, steps, {"before": list(scores.values())})


def halved(channels: int, groups: int) -> int:
    """The largest number of groups of equal size that is at most half of what it was; from 2 groups on."""
    return next(number for number in range(groups // 2, 0, -1) if channels % number == 0)


def _with(spec: NetworkSpec, groups: Mapping[str, int]) -> NetworkSpec:
    from nasdistill.models.with_groups import WithGroups

    return spec.model_copy(update={"model": WithGroups.of(spec.model, dict(groups))})


def _layers(spec: NetworkSpec) -> dict[str, Groups]:
    """The depthwise layers of each unit that has some, and their channels."""
    import torch

    from nasdistill.growth.coupling import groups_of_units
    from nasdistill.models.with_groups import depthwise_layers

    with torch.device("meta"):
        widths = {path: layer.out_channels for path, layer in depthwise_layers(spec.build())}
    if not widths:
        return {}
    found: dict[str, Groups] = {}
    for unit, groups in groups_of_units(spec).items():
        paths = {place.tensor.rpartition(".")[0] for group in groups for place in group.places}
        if mine := {path: width for path, width in widths.items() if path in paths}:
            found[unit] = mine
    return found
