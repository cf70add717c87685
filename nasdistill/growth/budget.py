"""Budgets: limits of what a network may cost, and the largest network of a family that keeps them."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from nasdistill.component import Options
from nasdistill.errors import SpecError, UserError
from nasdistill.numerals import quantity
from nasdistill.words import size as bytes_in_words
from nasdistill.words import whole

if TYPE_CHECKING:
    from nasdistill.models.base import NetworkSpec

MOST = 10**15
UNUSED = 0.03
"""How much of a budget may be left over where single channels could use it."""
AIM = 0.97
"""What share of a latency is aimed at: two measurements differ by a few per cent."""
MEASUREMENTS = 5
"""Networks that are exported and timed, at most, until one keeps a budget of bytes or latency."""

Usage = Callable[["NetworkSpec"], dict[str, float]]
"""By limit the share of it that a network needs."""


def _count(value: Any) -> Any:
    """`300k` as 300000.

    Raises:
        SpecError: it is text, but no number.
    """
    if not isinstance(value, str):
        return value
    found = None if value.strip().endswith("B") else quantity(value)
    if found is None:
        raise SpecError(f"must be a number such as 300000, 300k or 20M, got {value!r}")
    return round(found)


def _bytes(value: Any) -> Any:
    """`1MB` as 1000000, `1MiB` as 1048576.

    Raises:
        SpecError: it is text, but no size.
    """
    found = quantity(value) if isinstance(value, str) else value
    if found is None:
        raise SpecError(f"must be a size such as 1000000, 512kB, 1MB or 1MiB, got {value!r}")
    return round(found) if isinstance(found, float) else found


class Budget(Options):
    """What a network may cost at most. A number alone limits the parameters."""

    parameters: Annotated[int | None, BeforeValidator(_count)] = Field(
        None, gt=0, le=MOST, description="learned values, e.g. 300k"
    )
    multiply_adds: Annotated[int | None, BeforeValidator(_count)] = Field(
        None, gt=0, le=MOST, description="of convolutions and matrix products for one image, e.g. 20M"
    )
    bytes: Annotated[int | None, BeforeValidator(_bytes)] = Field(
        None, gt=0, le=MOST, description="of the ONNX file, weights in single precision and graph, e.g. 1MB"
    )
    peak_activation: Annotated[int | None, BeforeValidator(_bytes)] = Field(
        None,
        gt=0,
        le=MOST,
        description="bytes of the activations that are alive at once for one image in single precision, e.g. 512kB",
    )
    latency_ms: float | None = Field(
        None, gt=0, description="milliseconds of one image in onnxruntime on one thread of this machine"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_a_number(cls, value: Any) -> Any:
        is_number = isinstance(value, str | int | float) and not isinstance(value, bool)
        return {"parameters": value} if is_number else value

    @model_validator(mode="after")
    def _limits_something(self) -> Budget:
        if not self.limits():
            raise SpecError(f"a budget limits something: {', '.join(type(self).model_fields)}")
        return self

    def limits(self) -> dict[str, float]:
        """Those that are given."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    def fitted(self, spec: NetworkSpec, narrowest: int = 1) -> NetworkSpec:
        """The largest network of the family that keeps the budget: all widths scaled alike.

        Blocks are taken away where else the base width would be less than `narrowest`. A network whose widths cannot
        change stays as it is. Bytes and latency are estimated, see `settled`.

        Raises:
            OverBudget: the smallest network is too large.
        """
        return _fitted(self, spec.model_dump_json(), narrowest)

    def settled(
        self, spec: NetworkSpec, narrowest: int = 1, first: NetworkSpec | None = None
    ) -> tuple[NetworkSpec, dict[str, float]]:
        """As `fitted`, with what the network needs of each limit: bytes and latency are those of its exported file.

        Args:
            first: the network to take if it keeps the budget.

        Raises:
            OverBudget: the smallest network is too large, or each of those that were measured.
        """
        found = first or self.fitted(spec, narrowest)
        corrected, kept = self, None
        for tries in range(1, MEASUREMENTS + 1):  # noqa: B007 - told in the end
            needs, tried = self.measured(found), found
            used = {name: needs[name] / limit for name, limit in self.limits().items()}
            if max(used.values()) <= 1:
                # the estimate may have taken a file for larger than it is; another network then uses what is left
                if kept is not None or self.bytes is None or max(used.values()) > 1 - UNUSED:
                    return found, needs
                kept = found, needs
            corrected = corrected.corrected(self, needs)
            try:
                found = corrected.fitted(spec, narrowest)
            except OverBudget:
                break
        if kept is not None:
            return kept
        raise OverBudget(tried, self, used, tries)

    def kept(self, needs: Mapping[str, float]) -> str:
        """What a network needs beside its limits, e.g. `an ONNX file of 97.2 kB (limit 100 kB)`."""
        limits = self.limits()
        return ", ".join(f"{_needs(name, value)} (limit {_limit(name, limits[name])})" for name, value in needs.items())

    def measured(self, spec: NetworkSpec) -> dict[str, float]:
        """What a network needs of each limit."""
        from nasdistill.models.onnx_costs import exported_costs

        return self._needs(spec, exported_costs)

    def estimated(self, spec: NetworkSpec) -> dict[str, float]:
        """The same, bytes and latency as they are kept in the user's cache."""
        from nasdistill.models.onnx_costs import estimated_costs

        return self._needs(spec, estimated_costs)

    def _needs(self, spec: NetworkSpec, of_file: Callable[[NetworkSpec], tuple[int, float]]) -> dict[str, float]:
        needs = {name: measure(spec) for name, measure in COUNTED.items() if name in self.limits()}
        if self.bytes is not None or self.latency_ms is not None:
            exported = dict(zip(("bytes", "latency_ms"), of_file(spec), strict=True))
            needs |= {name: value for name, value in exported.items() if name in self.limits()}
        return needs

    def corrected(self, real: Budget, needs: Mapping[str, float]) -> Budget:
        """The budget that estimates have to keep, after a network that kept this one needs so much of the real one."""
        changed: dict[str, float] = {}
        if self.bytes is not None and real.bytes is not None:
            changed["bytes"] = max(1, self.bytes - round(needs["bytes"] - real.bytes))
        if self.latency_ms is not None and real.latency_ms is not None:
            changed["latency_ms"] = self.latency_ms * min(1, AIM * real.latency_ms / needs["latency_ms"])
        return self.model_copy(update=changed)


class OverBudget(UserError):
    """No network of the family keeps a budget."""

    def __init__(self, spec: NetworkSpec, budget: Budget, used: Mapping[str, float], tries: int = 0) -> None:
        """Of the smallest network, or of the last of so many that were measured, and the share of each limit that it
        needs."""
        name, share = max(used.items(), key=lambda item: item[1])
        limit = budget.limits()[name]
        beginning = f"{_smallest_in_words(spec)} is too large for the budget: it has"
        if tries and reason_not_to_scale(spec) is None:
            beginning = (
                f"no network of {spec.model.registered_name!r} that keeps the budget was found: the last of {tries} "
                f"that were measured has {whole(_parameters(spec))} parameters and"
            )
        super().__init__(
            f"{beginning} {_needs(name, share * limit)}, {share:.3g} times the limit of {_limit(name, limit)}"
        )


def reason_not_to_scale(spec: NetworkSpec) -> str | None:
    """Why the widths of this model cannot change, in a sentence; None if they can."""
    from nasdistill.growth.plan import scalable

    return None if scalable(spec) else f"the widths of {spec.model.registered_name!r} cannot change"


def _smallest_in_words(spec: NetworkSpec) -> str:
    name = spec.model.registered_name
    scales = reason_not_to_scale(spec) is None
    return f"the smallest network of {name!r}" if scales else f"a network of {name!r}, whose widths cannot change,"


def _needs(name: str, value: float) -> str:
    number = _limit(name, value)
    sentences = {
        "bytes": f"an ONNX file of {number}",
        "peak_activation": f"{number} of activations at once",
        "latency_ms": f"a latency of {number}",
    }
    return sentences.get(name, f"{number} {name.replace('_', '-')}")


def _limit(name: str, value: float) -> str:
    if name == "latency_ms":
        return f"{value:.3g} ms"
    return bytes_in_words(value) if name in ("bytes", "peak_activation") else whole(value)


def _parameters(spec: NetworkSpec) -> float:
    from nasdistill.growth.plan import size

    return size(spec, "params")


def _multiply_adds(spec: NetworkSpec) -> float:
    from nasdistill.growth.plan import size

    return size(spec, "flops")


def _peak(spec: NetworkSpec) -> float:
    import torch

    from nasdistill.models.peak_activation import peak_activation

    with torch.device("meta"):
        network = spec.as_read().build().eval()
    return peak_activation(network, spec.reads)


COUNTED: dict[str, Callable[[NetworkSpec], float]] = {
    "parameters": _parameters,
    "multiply_adds": _multiply_adds,
    "peak_activation": _peak,
}
"""What is counted, without a machine."""


def counted(budget: Budget, spec: NetworkSpec) -> float:
    """A number that orders networks as their costs do, without any export: what the first limit counts, if it does."""
    name = next(iter(budget.limits()))
    return COUNTED[{"bytes": "parameters", "latency_ms": "multiply_adds"}.get(name, name)](spec)


def narrowest(spec: NetworkSpec) -> NetworkSpec:
    """The network with a channel of the base width; itself where widths cannot change."""
    from nasdistill.growth.plan import with_units

    return spec if reason_not_to_scale(spec) is not None else _at(with_units(spec), 1)


def usage_like(budget: Budget, first: NetworkSpec, *, exported: bool = False) -> Usage:
    """How networks of the family of `first` use a budget; what is slow to tell is left out where all else is too much.

    Of a file all but the weights is taken to be as long as that of `first`.

    Args:
        exported: take the file that the exporter writes, in seconds, for one that is estimated.
    """
    graph = 0.0
    if budget.bytes is not None:
        from nasdistill.models.onnx_costs import bytes_like, estimated_costs

        graph = (bytes_like(first, first) if exported else estimated_costs(first)[0]) - 4 * _parameters(first)

    def usage(spec: NetworkSpec) -> dict[str, float]:
        limits = budget.limits()
        used = {name: measure(spec) / limits[name] for name, measure in COUNTED.items() if name in limits}
        if budget.bytes is not None:
            used["bytes"] = (4 * _parameters(spec) + graph) / budget.bytes
        if budget.latency_ms is not None and not any(share > 1 for share in used.values()):
            from nasdistill.models.onnx_costs import estimated_costs

            used["latency_ms"] = estimated_costs(spec)[1] / budget.latency_ms / AIM
        return used

    return usage


@functools.lru_cache(maxsize=1 << 12)
def _fitted(budget: Budget, json: str, narrowest: int) -> NetworkSpec:
    from nasdistill.growth.plan import with_units
    from nasdistill.models.base import NetworkSpec

    spec = NetworkSpec.model_validate_json(json)
    usage = usage_like(budget, spec)

    def keeps(each: NetworkSpec) -> bool:
        return all(share <= 1 for share in usage(each).values())

    if reason_not_to_scale(spec) is not None:
        if keeps(spec):
            return spec
        raise OverBudget(spec, budget, usage(spec))
    spec = with_units(spec)
    width = 2 * min(narrowest, spec.model.base_width())
    while width := width // 2:
        for shallower in _depths(spec):
            if keeps(_at(shallower, width)):
                return _widest(shallower, width, usage, fine=budget.latency_ms is None)
    smallest = _at(shallower, 1)
    raise OverBudget(smallest, budget, usage(smallest))


def _depths(spec: NetworkSpec) -> Iterator[NetworkSpec]:
    """The network, and then with ever fewer blocks."""
    from nasdistill.growth.plan import with_model

    yield spec
    for blocks in range((spec.model.blocks() or 1) - 1, 0, -1):
        yield with_model(spec, spec.model.with_blocks(blocks))


def _at(spec: NetworkSpec, width: float) -> NetworkSpec:
    """The network with that base width, and all others in proportion."""
    from nasdistill.growth.plan import with_model

    return with_model(spec, spec.model.scaled(width / spec.model.base_width()))


def _widest(spec: NetworkSpec, low: int, usage: Usage, fine: bool) -> NetworkSpec:
    """The widest network that keeps the budget, which that of the base width `low` does.

    A whole number of channels of the base width is taken where that leaves little over; else widths are scaled by
    fractions of a channel, and single units gain channels.

    Args:
        fine: single units, too.
    """
    from nasdistill.growth.plan import FRACTIONS

    def share(each: NetworkSpec) -> float:
        return max(usage(each).values())

    def too_wide(width: float) -> bool:
        return share(_at(spec, width)) > 1

    high = 2 * low
    while not too_wide(high) and high < 1 << 20:
        low, high = high, 2 * high
    whole_width = low + bisect_left(range(low + 1, high), True, key=too_wide)
    found = _at(spec, whole_width)
    if share(found) < 1 - UNUSED:
        steps = range(1, FRACTIONS)
        part = bisect_left(steps, True, key=lambda step: too_wide(whole_width + step / FRACTIONS))
        found = _at(spec, whole_width + part / FRACTIONS)
    return _tuned(found, share) if fine else found


def _tuned(spec: NetworkSpec, share: Callable[[NetworkSpec], float]) -> NetworkSpec:
    """`spec` with more channels in single units, as long as much is left over and each uses more of it."""
    from nasdistill.growth.plan import with_width

    while (now := share(spec)) < 1 - UNUSED:
        wider = [with_width(spec, unit.name, unit.width + unit.multiple) for unit in spec.model.units()]
        used = [(needs, number) for number, each in enumerate(wider) if now < (needs := share(each)) <= 1]
        if not used:
            break
        spec = wider[max(used)[1]]
    return spec
