"""A growth method, offered by entry point."""

from __future__ import annotations

from typing import Any

from nasdistill.growth.methods import Grown, GrowthMethod


class Standstill(GrowthMethod):
    """Grows nothing."""

    source = "none"

    def grow(self, spec: Any, *_args: Any, **_options: Any) -> Grown:
        return Grown(spec)
