"""Growth plans: the widths and depths at which a network reaches a target size.

Plans are arithmetic on specs: sizes are counted on torch's meta device, without weights, and part by part.
"""

from __future__ import annotations

import functools
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.scalable import Measure, Part, Scalable, Unit

if TYPE_CHECKING:
    from torch import nn

Read = Literal["output", "after-norm"]
"""Where a unit's activations are read: at its output, or after each batch norm that it passes.

After the batch norm is after the ReLU as well wherever the ReLU is the only reader, because
x * [x > 0] * G = relu(x) * G; and DARTS operations begin with a ReLU.
"""

FRACTIONS = 64
"""Fractions of a channel of the base width that `fitted` tries."""

TargetMeasure = Annotated[
    Literal["params", "flops", "bytes", "latency"],
    Field(
        description="what size means: parameters, multiply-adds, bytes of the ONNX file, or the time of one image in "
        "onnxruntime on one thread of this machine"
    ),
]


def scalable(spec: NetworkSpec) -> Scalable | None:
    """The model of a spec, if widths of its network can change; one that has no units of its own, as `with-widths`."""
    model = spec.model
    if not isinstance(model, Scalable) and model.binary is None and model.registered_name in MODELS.loaded():
        from nasdistill.models.with_widths import WithWidths

        model = WithWidths.of(model, spec.shape)
    return model if isinstance(model, Scalable) and model.units() else None


def reason_not_to_grow(spec: NetworkSpec) -> str | None:
    """Why the widths of this model cannot change, in a sentence; None if they can."""
    reason = reason_not_to_rebuild(spec, "grow")
    if reason is not None:
        return reason
    if scalable(spec) is None:
        who = f"the model {spec.model.registered_name!r} cannot grow"
        return f"{who}: no channels of its network can change in number{why_fixed(spec)}"
    return None


def reason_not_to_rebuild(spec: NetworkSpec, change: Literal["grow", "shrink"]) -> str | None:
    """Why no network of other widths can be built from this spec, in a sentence; None if one can."""
    if spec.model.binary is not None:
        return f"a binary network cannot {change}: {change} the full-precision network and make the result binary"
    if spec.model.registered_name not in MODELS.loaded():
        return f"a module of your own cannot {change}, as no spec builds another like it; register a model for it"
    return None


def why_fixed(spec: NetworkSpec) -> str:
    """Of a network no channels of which can change, why the first ones stay, to follow a sentence."""
    from nasdistill.models.channels.widths import tried_groups

    first = next(iter(tried_groups(spec.build(), spec.reads)), None)
    return f"; those of {first.name!r} stay, because {first.fixed}" if first is not None else ""


def growable(spec: NetworkSpec) -> Scalable:
    """As `scalable`, of a model that can grow.

    Raises:
        UserError: it cannot.
    """
    model = scalable(spec) if reason_not_to_rebuild(spec, "grow") is None else None
    if model is None:
        raise UserError(reason_not_to_grow(spec))
    return model


def widths_of(spec: NetworkSpec) -> dict[str, int]:
    """Channels of each unit; empty for a model without units."""
    return {unit.name: unit.width for unit in spec.model.units()} if isinstance(spec.model, Scalable) else {}


def with_units(spec: NetworkSpec) -> NetworkSpec:
    """The same network's spec with a model whose widths can change, where they can."""
    model = scalable(spec)
    return spec if model is None else with_model(spec, model)


def with_model(spec: NetworkSpec, model: Scalable) -> NetworkSpec:
    """`spec` with another model."""
    return spec.model_copy(update={"model": model})


def size(spec: NetworkSpec, measure: Measure) -> int:
    """Parameters, or multiply-adds for one image, of the network that a spec builds, its auxiliary head left out.

    Raises:
        UserError: its parameters are more than this machine's memory.
    """
    from nasdistill.models.memory_limit import refuse_beyond_memory

    found = _counted(spec, measure)
    if measure == "params":
        refuse_beyond_memory(found)
    return found


def _counted(spec: NetworkSpec, measure: Measure) -> int:
    if not isinstance(spec.model, Scalable) or spec.model.binary is not None:
        return _size(Part(_built, (spec.model_dump_json(),), spec.reads), measure)
    counted = spec.model.counted(measure, spec.reads, spec.classes)
    if counted is not None:
        return counted
    return sum(_size(part, measure) for part in spec.model.parts(spec.reads, spec.classes))


def _built(spec: str) -> nn.Module:
    return NetworkSpec.model_validate_json(spec).build()


@functools.lru_cache(maxsize=1 << 14)
def _size(part: Part, measure: Measure) -> int:
    import torch
    from torch import nn

    from nasdistill.models.inspection import count_parameters, multiply_adds

    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element")  # half of one channel is none
        module = part.build()
    if measure == "params":
        return count_parameters(module)
    # They have no multiply-adds, but take most of the time on the meta device.
    for inner in list(module.modules()):
        for name, child in inner.named_children():
            if type(child) in (nn.BatchNorm2d, nn.ReLU):
                setattr(inner, name, nn.Identity())
    return multiply_adds(module, part.reads)


@dataclass(frozen=True)
class Target:
    """The size that a teacher is to reach.

    Attributes:
        ratio: size of the teacher over size of the student.
        tolerance: how far from the ratio the result may be, as a fraction of it.
    """

    measure: TargetMeasure
    student: NetworkSpec
    ratio: float
    tolerance: float

    @functools.cached_property
    def _students_size(self) -> float:
        return self.size_of(self.student)

    def size_of(self, spec: NetworkSpec) -> float:
        """Size of `spec` in the unit of the measure: bytes of its file to a few, milliseconds as they were measured."""
        if self.measure in ("params", "flops"):
            return size(spec, self.measure)
        from nasdistill.models.onnx_costs import bytes_like, estimated_costs

        if self.measure == "latency":
            return estimated_costs(spec)[1]
        return bytes_like(spec, as_deep_as(spec, self.student))

    def ratio_of(self, spec: NetworkSpec) -> float:
        """Size of `spec` over that of the student."""
        return self.size_of(spec) / self._students_size

    def distance(self, spec: NetworkSpec) -> float:
        """How far from the ratio `spec` is, as a fraction of it."""
        return abs(self.ratio_of(spec) / self.ratio - 1)

    def reached(self, spec: NetworkSpec) -> bool:
        return self.distance(spec) <= self.tolerance

    def checked(self, spec: NetworkSpec, how: str) -> NetworkSpec:
        """`spec`, if it has the size.

        Raises:
            SpecError: it has not; gives the ratio that `how` reached.
        """
        if self.reached(spec):
            return spec
        raise SpecError(self.shortfall(spec, how), ("ratio",))

    def reason_too_small(self, largest: NetworkSpec, how: str) -> str | None:
        """Why the largest network that `how` reaches does not do, in a sentence; None if it does."""
        beyond = self.ratio_of(largest) < self.ratio and not self.reached(largest)
        return self.shortfall(largest, how) if beyond else None

    def shortfall(self, spec: NetworkSpec, how: str) -> str:
        """The sentence that `spec` is the closest that `how` reaches."""
        return (
            f"{how} cannot reach {self.ratio:g} times the student's {self.measure} within {self.tolerance:.1%}: "
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


def as_deep_as(other: NetworkSpec, spec: NetworkSpec) -> NetworkSpec:
    """`spec` with as many blocks as `other` has, and so with its layers; itself where it has them or cannot change."""
    model, theirs = scalable(spec), scalable(other)
    if model is None or theirs is None or (blocks := theirs.blocks()) in (None, model.blocks()):
        return spec
    return with_model(spec, model.with_blocks(blocks))


def fitted(spec: NetworkSpec, target: Target) -> NetworkSpec:
    """`spec` with all widths scaled alike, so that its size comes nearest to the target.

    A whole number of channels of the base width, with all others in proportion, is taken where one meets the target;
    else widths are scaled by fractions of a channel and rounded; and in networks so small that this misses the target,
    single units gain or lose channels. In a network that is to grow none becomes narrower than it was, if the target
    can be met so.
    """
    model = growable(spec)
    channels = model.base_width()

    def whole(number: int) -> NetworkSpec:
        return with_model(spec, model.scaled(number / channels))

    def fine(number: int) -> NetworkSpec:
        return with_model(spec, model.scaled(number / (FRACTIONS * channels)))

    over = target.passing(whole, start=channels)
    found = target.nearest([whole(over - 1), whole(over)])
    if target.reached(found):
        return found
    over = target.crossing(fine, FRACTIONS * (over - 1), FRACTIONS * over)
    narrowest = widths_of(with_model(spec, model)) if target.ratio_of(spec) <= target.ratio else {}
    nearest = target.nearest([fine(over - 1), fine(over)])
    wider = _tuned(nearest, target, narrowest)
    return wider if target.reached(wider) else _tuned(nearest, target, {})


def _tuned(spec: NetworkSpec, target: Target, narrowest: Mapping[str, int]) -> NetworkSpec:
    """`spec` with a channel more or less in single units, as long as each brings it nearer and it is not there yet.

    Args:
        narrowest: by unit, the fewest channels that it may have, if not 1.
    """
    while not target.reached(spec):
        changes = [
            with_width(spec, unit.name, unit.width + by)
            for unit in growable(spec).units()
            for by in (-unit.multiple, unit.multiple)
            if unit.width + by >= narrowest.get(unit.name, 1)
        ]
        nearest = target.nearest([spec, *changes])
        if nearest is spec:
            break
        spec = nearest
    return spec


def with_width(spec: NetworkSpec, unit: str, width: int) -> NetworkSpec:
    """`spec` with another width of one unit."""
    return with_model(spec, spec.model.with_widths({unit: width}))


def channel_costs(spec: NetworkSpec, measure: Measure) -> dict[str, float]:
    """Parameters or multiply-adds per additional channel of each unit."""
    before = size(spec, measure)
    return {
        unit.name: (size(with_width(spec, unit.name, unit.width + unit.multiple), measure) - before) / unit.multiple
        for unit in growable(spec).units()
    }


@dataclass(frozen=True)
class GrowthStep:
    """One step of a plan: the widened unit, the new spec, and if it reaches the target."""

    unit: str
    spec: NetworkSpec
    last: bool


def steps_to(
    target: Target, spec: NetworkSpec, widest: Mapping[str, int], step: float, order: Callable[[], Sequence[str]]
) -> Iterator[GrowthStep]:
    """Widen one unit after the other until the target is reached or no unit can get closer.

    Args:
        order: called before each step; the units by preference.
    """
    while found := next_step(spec, target, order(), step, widest):
        yield found
        if found.last:
            break
        spec = found.spec


def next_step(
    spec: NetworkSpec, target: Target, order: Sequence[str], step: float, widest: Mapping[str, int]
) -> GrowthStep | None:
    """Widen the first unit of `order` that can take a step.

    A step that would pass the target is shortened to the width that comes nearest to it, and is the last one if it
    lies within the tolerance. A unit whose smallest step would pass it too far is left for the next in `order`.

    Args:
        step: channels to add, as a fraction of the unit's; the least that it can add at least.
        widest: by unit, the most channels that it may have.

    Returns:
        None if no unit can get closer to the target.
    """
    units = {unit.name: unit for unit in growable(spec).units()}
    for name in order:
        unit = units[name]
        wanted = max(1, round(step * unit.width / unit.multiple))
        most = min(wanted, (widest[name] - unit.width) // unit.multiple)
        found = _step_of(spec, target, unit, most) if most > 0 else None
        if found is not None:
            return found
    return None


def _step_of(spec: NetworkSpec, target: Target, unit: Unit, most: int) -> GrowthStep | None:
    """The widening of a unit by up to `most` of its smallest steps."""

    def make(number: int) -> NetworkSpec:
        wider = with_width(spec, unit.name, unit.width + number * unit.multiple)
        # Units of equal widths may become one, as a stem and the first group that adds to it: not on the way.
        return wider if widths_of(wider).keys() == widths_of(spec).keys() else make(number + 1)

    if target.ratio_of(make(most)) <= target.ratio:
        return GrowthStep(unit.name, make(most), last=False)
    over = target.crossing(make, 0, most)
    nearest = min((over - 1, over), key=lambda number: target.distance(make(number)))
    if nearest > 0 and target.reached(make(nearest)):
        return GrowthStep(unit.name, make(nearest), last=True)
    return GrowthStep(unit.name, make(over - 1), last=False) if over > 1 else None


def record(spec: NetworkSpec, target: Target) -> dict[str, Any]:
    """The reported values of a step: `widths`, `parameters`, and `ratio` in the target's measure."""
    return {
        "widths": list(widths_of(spec).values()),
        "parameters": size(spec, "params"),
        "ratio": round(target.ratio_of(spec), 4),
    }
