"""A growth method, offered by entry point."""

from __future__ import annotations

from nasdistill.growth.methods import Grown, GrowthMethod
from nasdistill.growth.student import Student


class Standstill(GrowthMethod):
    """Grows nothing."""

    source = "none"

    def grow(self, student: Student) -> Grown:
        return Grown(student.spec)
