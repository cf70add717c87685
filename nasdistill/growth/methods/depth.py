"""Growing by more blocks of the same kind."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from nasdistill.growth.methods import GROWTH_METHODS, Grown, GrowthMethod
from nasdistill.growth.plan import Target, fitted, growable, record, with_model
from nasdistill.growth.student import Student
from nasdistill.models.base import NetworkSpec


@GROWTH_METHODS.register("depth")
class Depth(GrowthMethod):
    """Adds blocks of the same widths (cells of a DARTS network) until the size is closest to the ratio.

    One block is a large step for a small network: outside the tolerance all widths are then scaled alike, up, or down
    where the first block is too much.
    """

    changes_layers: ClassVar[bool] = True
    source: ClassVar[str] = "DARTS networks of 10 and of 25 cells: the same cells, stacked higher"

    def reason_to_refuse(self, spec: NetworkSpec) -> str | None:
        reason = super().reason_to_refuse(spec)
        if reason is None and growable(spec).blocks() is None:
            reason = f"the model {spec.model.registered_name!r} has no depth that can grow"
        return reason

    def reason_not_to_carry(self, spec: NetworkSpec) -> str | None:
        model = growable(spec)
        if model.identity_weights() is None:
            return (
                f"blocks of {spec.model.registered_name!r} cannot pass on what they read, so that none can be added "
                "without a change of what the network computes"
            )
        grown = growable(self._grown(spec).spec)
        deeper = model.with_blocks(grown.blocks() or 0)
        if any(now.width < before.width for now, before in zip(grown.units(), deeper.units(), strict=True)):
            return f"with a block more it is more than {self.ratio:g} times as large, so that its channels become fewer"
        return super().reason_not_to_carry(spec)

    def grow(self, student: Student) -> Grown:
        return self._grown(student.spec)

    def _grown(self, spec: NetworkSpec) -> Grown:
        target = self.target(spec)
        deepened = functools.partial(with_more_blocks, spec)
        over = target.passing(deepened, start=growable(spec).blocks() or 0)
        nearest = target.nearest([deepened(over - 1), deepened(over)])
        if target.reached(nearest):
            return Grown(nearest, [step_to(nearest, target)])
        # Rather wider than narrower, so that it can begin with the student's weights.
        ways = [deepened(over - 1), nearest] if over > 1 else [nearest]
        found = [(deeper, fitted(deeper, target)) for deeper in ways]
        deeper, grown = next((each for each in found if target.reached(each[1])), found[-1])
        target.checked(grown, "adding depth and scaling all widths alike")
        return Grown(grown, [step_to(deeper, target), step_to(grown, target)])


def with_more_blocks(spec: NetworkSpec, by: int) -> NetworkSpec:
    """`spec` with so many blocks more, of the same widths."""
    model = growable(spec)
    return with_model(spec, model.with_blocks((model.blocks() or 0) + by))


def step_to(spec: NetworkSpec, target: Target) -> dict[str, Any]:
    """The reported values of a step to `spec`."""
    return {"depth": growable(spec).blocks(), **record(spec, target)}
