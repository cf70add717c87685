"""Growth plans: which widths and depths a network of cells is given until it has the size that was asked for.

Everything here is arithmetic on specs: sizes are counted on networks without memory (torch's meta device), so a plan
of many steps takes seconds and no weights.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn

from nasdistill.errors import UserError
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.inspection import count_parameters, multiply_adds
from nasdistill.registry import build

Budget = Literal["params", "flops"]

FRACTIONS = 64
"""Into how many parts `fitted` divides a channel of the first cell."""


class Growable(Protocol):
    """A model that can grow: a chain of cells with a width each. Any model with these fields and methods is one."""

    channels: int
    cells: int
    widths: tuple[int, ...] | None

    def cell_widths(self) -> tuple[int, ...]:
        """Channels of each cell, also where `widths` is None."""

    def reductions(self) -> frozenset[int]:
        """The cells that halve the resolution."""


def growable(spec: NetworkSpec) -> Growable:
    """The model of a spec, if it can grow.

    Raises:
        UserError: it cannot; names those that can.
    """
    if not _can_grow(type(spec.model)):
        able = [name for name in MODELS.names() if _can_grow(MODELS.get(name))]
        name = spec.model.registered_name
        raise UserError(f"the model {name!r} cannot grow: it has no cells with widths (can grow: {', '.join(able)})")
    if spec.model.binary is not None:
        raise UserError("a binary network does not grow: grow the real one, and make what comes of it binary")
    model: Growable = spec.model
    return model


def widths_of(spec: NetworkSpec) -> list[int]:
    """Channels of each cell, for a report; none of a model without cells, which a plugin's method may know to grow."""
    return list(growable(spec).cell_widths()) if _can_grow(type(spec.model)) else []


def _can_grow(model: type[Any]) -> bool:
    return {"channels", "cells", "widths"} <= set(model.model_fields) and hasattr(model, "cell_widths")


def with_options(spec: NetworkSpec, **options: Any) -> NetworkSpec:
    """`spec` with other options of its model, validated."""
    model = build(type(spec.model), {**spec.model.model_dump(), **options})
    return spec.model_copy(update={"model": model})


def size(spec: NetworkSpec, budget: Budget) -> int:
    """Parameters, or multiply-adds for one image, of the network that a spec builds, its auxiliary head left out."""
    return _size(spec.model_dump_json(), budget)


@functools.lru_cache(maxsize=4096)
def _size(spec: str, budget: Budget) -> int:
    network_spec = NetworkSpec.model_validate_json(spec)
    with torch.device("meta"):
        network = network_spec.build()
    if budget == "params":
        return count_parameters(network)
    # Batch norms count as nothing, and are three quarters of the time to count without memory.
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return multiply_adds(network, network_spec.shape)


@dataclass(frozen=True)
class Target:
    """The size that a teacher is to reach.

    Attributes:
        student: size of the student, in the budget's unit.
        ratio: size of the teacher over that of the student.
        tolerance: how far from the ratio the result may be, as a fraction of it.
    """

    budget: Budget
    student: int
    ratio: float
    tolerance: float

    @classmethod
    def for_student(cls, spec: NetworkSpec, budget: Budget, ratio: float, tolerance: float) -> Target:
        return cls(budget, size(spec, budget), ratio, tolerance)

    def ratio_of(self, spec: NetworkSpec) -> float:
        """Size of `spec` over that of the student."""
        return size(spec, self.budget) / self.student

    def distance(self, spec: NetworkSpec) -> float:
        """How far from the ratio `spec` is, as a fraction of it."""
        return abs(self.ratio_of(spec) / self.ratio - 1)

    def reached(self, spec: NetworkSpec) -> bool:
        return self.distance(spec) <= self.tolerance

    def checked(self, spec: NetworkSpec, how: str) -> NetworkSpec:
        """`spec`, if it has the size.

        Raises:
            UserError: it has not; says how near `how` came.
        """
        if self.reached(spec):
            return spec
        raise UserError(
            f"{how} cannot reach {self.ratio:g} times the student's {self.budget} within {self.tolerance:.1%}: "
            f"the closest is {self.ratio_of(spec):.3f} times"
        )

    def crossing(self, make: Callable[[int], NetworkSpec], low: int, high: int) -> int:
        """The smallest number above `low` at which the growing sequence `make` passes the ratio; at `high` it does."""
        numbers = range(low + 1, high)
        return low + 1 + bisect_left(numbers, True, key=lambda number: self.ratio_of(make(number)) > self.ratio)

    def passing(self, make: Callable[[int], NetworkSpec], start: int) -> int:
        """The smallest positive number at which the growing sequence `make` passes the ratio, sought from `start`."""
        low, high = 0, start
        while self.ratio_of(make(high)) <= self.ratio:
            low, high = high, 2 * high
        return self.crossing(make, low, high)

    def nearest(self, specs: Iterable[NetworkSpec]) -> NetworkSpec:
        """The first of those whose size comes nearest to the ratio."""
        return min(specs, key=self.distance)


def fitted(spec: NetworkSpec, target: Target) -> NetworkSpec:
    """`spec` with all widths scaled alike, the stem's too, so that its size comes nearest to the target.

    A whole number of channels of the first cell, with all others in proportion, is taken where one meets the target;
    else widths are scaled by fractions of a channel and rounded; and in networks so small that this misses the target,
    single cells gain or lose a channel.
    """
    channels = growable(spec).channels

    def whole(number: int) -> NetworkSpec:
        return scaled(spec, number / channels)

    def fine(number: int) -> NetworkSpec:
        return scaled(spec, number / (FRACTIONS * channels))

    over = target.passing(whole, start=channels)
    found = target.nearest([whole(over - 1), whole(over)])
    if target.reached(found):
        return found
    over = target.crossing(fine, FRACTIONS * (over - 1), FRACTIONS * over)
    return _tuned(target.nearest([fine(over - 1), fine(over)]), target)


def _tuned(spec: NetworkSpec, target: Target) -> NetworkSpec:
    """`spec` with a channel more or less in single cells, as long as each brings it nearer and it is not there yet."""
    while not target.reached(spec):
        widths = growable(spec).cell_widths()
        changes = ((cell, width + by) for cell, width in enumerate(widths) for by in (-1, 1) if width + by > 0)
        nearest = target.nearest([spec, *(with_width(spec, cell, width) for cell, width in changes)])
        if nearest is spec:
            break
        spec = nearest
    return spec


def scaled(spec: NetworkSpec, factor: float) -> NetworkSpec:
    """`spec` with every width, and the stem's, multiplied by `factor`.

    Cells of equal width are rounded at different points, so that over a small change of the factor they gain their
    next channel one after the other: no width is off by a whole channel, and sizes lie close together.
    """
    model = growable(spec)
    widths = tuple(
        max(1, math.floor(factor * width + (cell + 0.5) / model.cells))
        for cell, width in enumerate(model.cell_widths())
    )
    channels = max(1, round(factor * model.channels))
    doubling = with_options(spec, channels=channels, widths=None)
    if growable(doubling).cell_widths() == widths:
        return doubling
    return with_options(spec, channels=channels, widths=widths)


def with_width(spec: NetworkSpec, cell: int, width: int) -> NetworkSpec:
    """`spec` with another width of one cell."""
    widths = growable(spec).cell_widths()
    return with_options(spec, widths=(*widths[:cell], width, *widths[cell + 1 :]))


def channel_costs(spec: NetworkSpec, budget: Budget) -> list[int]:
    """What one more channel of each cell costs, in parameters or multiply-adds."""
    before = size(spec, budget)
    return [
        size(with_width(spec, cell, width + 1), budget) - before
        for cell, width in enumerate(growable(spec).cell_widths())
    ]


@dataclass(frozen=True)
class Step:
    """One step of a plan: the cell that was widened, what became of the spec, and whether the target is reached."""

    cell: int
    spec: NetworkSpec
    last: bool


def next_step(
    spec: NetworkSpec, target: Target, order: Sequence[int], step: float, widest: Sequence[int]
) -> Step | None:
    """Widen the first cell of `order` that can take a step.

    A step that would pass the target is shortened to the width that comes nearest to it, and is the last one if it
    lies within the tolerance. A cell whose smallest step would pass it too far is left for the next in `order`.

    Args:
        step: channels to add, as a fraction of the cell's; one at least.
        widest: per cell, the most channels that it may have.

    Returns:
        None if no cell can come nearer to the target.
    """
    widths = growable(spec).cell_widths()
    for cell in order:
        most = min(widths[cell] + max(1, round(step * widths[cell])), widest[cell])
        found = _step_of(spec, target, cell, widths[cell], most) if most > widths[cell] else None
        if found is not None:
            return found
    return None


def _step_of(spec: NetworkSpec, target: Target, cell: int, width: int, most: int) -> Step | None:
    def make(width: int) -> NetworkSpec:
        return with_width(spec, cell, width)

    if target.ratio_of(make(most)) <= target.ratio:
        return Step(cell, make(most), last=False)
    over = target.crossing(make, width, most)
    nearest = min((over - 1, over), key=lambda width: target.distance(make(width)))
    if nearest > width and target.reached(make(nearest)):
        return Step(cell, make(nearest), last=True)
    return Step(cell, make(over - 1), last=False) if over - 1 > width else None


def record(spec: NetworkSpec, target: Target) -> dict[str, Any]:
    """What a report tells of a step: `widths`, `parameters`, and `ratio` in the target's budget."""
    return {
        "widths": list(growable(spec).cell_widths()),
        "parameters": size(spec, "params"),
        "ratio": round(target.ratio_of(spec), 4),
    }
