"""Growth methods: what of a student is widened, or deepened, to make its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from nasdistill.errors import SpecError
from nasdistill.growth.plan import Target, TargetMeasure
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    from nasdistill.growth.student import LabelledImages, Student
    from nasdistill.growth.while_training import GrowthWhileTraining
    from nasdistill.models.base import NetworkSpec

MEASURABLE = 0.05
"""How far two measurements of one latency may lie apart, as a fraction of it."""


@dataclass(frozen=True)
class Grown:
    """A grown architecture and the steps to it.

    Attributes:
        spec: rebuilt from JSON alone.
        steps: one mapping a step (`widths`, `parameters`, `ratio`, and what the method adds, such as the `unit` that
            grew and the `importance` of each), plain data.
        importance: per unit, `before` and `after` growing, where the method scores.
    """

    spec: NetworkSpec
    steps: list[dict[str, Any]] = field(default_factory=list)
    importance: dict[str, list[float]] = field(default_factory=dict)


class GrowthMethod(Component):
    """Base of all growth methods."""

    measures: ClassVar[bool] = False
    """Whether it looks at images, to measure what matters."""
    changes_layers: ClassVar[bool] = False
    """Whether the grown network may have layers that its student has not."""

    ratio: float = Field(2.0, gt=1, description="size of the teacher over the size of the student")
    measure: TargetMeasure = "params"
    tolerance: float = Field(0.02, gt=0, description="how far from the ratio the result may be, as a fraction of it")

    def reason_to_refuse(self, spec: NetworkSpec) -> str | None:
        """Why this method cannot grow a network of this spec, in a sentence; None if it can. Cheap."""
        from nasdistill.growth.plan import reason_not_to_grow

        return reason_not_to_grow(spec)

    def reason_not_to_carry(self, spec: NetworkSpec) -> str | None:
        """Why the weights of a network of this spec do not fit into what it grows to, in a sentence; None if they do.

        Asked where `reason_to_refuse` has none.
        """
        from nasdistill.growth.plan import growable

        return growable(spec).reason_not_to_copy()

    def target(self, spec: NetworkSpec) -> Target:
        """The size that a student of this spec is to reach; a latency within what can be measured."""
        told = MEASURABLE if self.measure == "latency" else 0
        return Target(self.measure, spec, self.ratio, max(self.tolerance, told))

    def while_training(
        self, after: Sequence[int], spec: NetworkSpec, images: LabelledImages = (), seed: int = 0
    ) -> GrowthWhileTraining:
        """Growth in equal steps after some of a training's epochs, see there.

        Raises:
            SpecError: the network cannot grow so, has no widths of a size on the way, or there are too many.
        """
        from nasdistill.growth.plan import fitted
        from nasdistill.growth.while_training import GrowthWhileTraining, aims

        reason = self.reason_to_refuse(spec) or self.reason_not_to_carry(spec)
        if reason is not None:
            raise SpecError(reason)

        if self.ratio ** (1 / len(after)) <= 1 + 2 * self.tolerance:
            raise SpecError(
                f"in {len(after)} steps to {self.ratio:g} times the size each is within the tolerance of "
                f"{self.tolerance:.1%}; take fewer"
            )

        def times(ratio: float) -> GrowthMethod:
            return self.model_copy(update={"ratio": ratio})

        for ratio in aims(self.ratio, len(after)):
            target = times(ratio).target(spec)
            target.checked(fitted(spec, target), "scaling all widths alike")
        return GrowthWhileTraining(
            lambda student, ratio: times(ratio).grow(student).spec, self.target(spec), after, spec, images, seed
        )

    def grow(self, student: Student) -> Grown:
        """Grow a student to `ratio` times its size.

        Raises:
            UserError: this kind of model cannot grow, or the ratio cannot be reached within the tolerance.
        """
        raise NotImplementedError(type(self).__name__)


GROWTH_METHODS: Registry[GrowthMethod] = Registry("growth-methods", GrowthMethod, "nasdistill.growth.methods")
