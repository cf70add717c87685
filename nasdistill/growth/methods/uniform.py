"""Growing every unit alike."""

from __future__ import annotations

from typing import ClassVar

from nasdistill.growth.methods import GROWTH_METHODS, Grown, GrowthMethod
from nasdistill.growth.plan import fitted, record
from nasdistill.growth.student import Student


@GROWTH_METHODS.register("uniform")
class Uniform(GrowthMethod):
    """Multiplies all channels, those of the stem included, by the same factor."""

    source: ClassVar[str] = "the usual width multiplier, Zagoruyko and Komodakis 2016, Wide residual networks"

    def grow(self, student: Student) -> Grown:
        target = self.target(student.spec)
        grown = target.checked(fitted(student.spec, target), "scaling all widths alike")
        return Grown(grown, [record(grown, target)])
