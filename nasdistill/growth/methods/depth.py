"""Growing by more blocks of the same kind."""

from __future__ import annotations

from typing import ClassVar

from nasdistill.growth.methods import GROWTH_METHODS, Grown, GrowthMethod
from nasdistill.growth.plan import fitted, growable, record, with_model
from nasdistill.growth.student import Student
from nasdistill.models.base import NetworkSpec


@GROWTH_METHODS.register("depth")
class Depth(GrowthMethod):
    """Adds blocks of the same widths (cells of a DARTS network) until the size is closest to the ratio.

    One block is a large step for a small network: outside the tolerance all widths are then scaled alike, up or down.
    """

    source: ClassVar[str] = "DARTS networks of 10 and of 25 cells: the same cells, stacked higher"

    keeps_layers: ClassVar[bool] = False

    def reason_to_refuse(self, spec: NetworkSpec) -> str | None:
        reason = super().reason_to_refuse(spec)
        if reason is None and growable(spec).blocks() is None:
            reason = f"the model {spec.model.registered_name!r} has no depth that can grow"
        return reason

    def grow(self, student: Student) -> Grown:
        spec, target = student.spec, self.target(student.spec)
        model = growable(spec)
        depth = model.blocks() or 0

        def deepened(by: int) -> NetworkSpec:
            return with_model(spec, model.with_blocks(depth + by))

        over = target.passing(deepened, start=depth)
        deeper = target.nearest([deepened(over - 1), deepened(over)])
        steps = [{"depth": growable(deeper).blocks(), **record(deeper, target)}]
        if not target.reached(deeper):
            deeper = target.checked(fitted(deeper, target), "adding depth and scaling all widths alike")
            steps.append({"depth": growable(deeper).blocks(), **record(deeper, target)})
        return Grown(deeper, steps)
