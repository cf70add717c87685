"""Networks of one size: so that a search compares architectures and not how large they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from nasdistill.component import Options
from nasdistill.errors import UserError

if TYPE_CHECKING:
    from nasdistill.models.base import NetworkSpec

SOUGHT, TOLERANCE = 0.02, 0.05
"""How near the size is to be, and how far it may be where whole channels allow no better, as fractions of it."""


class SizeOptions(Options):
    """The option of strategies that give every network the same size."""

    parameters: int | None = Field(
        None,
        gt=0,
        description=f"scale the widths of each network so that it has so many parameters, within {TOLERANCE:.0%}; "
        "those that the space gives it, if not given",
    )

    def sized(self, spec: NetworkSpec) -> NetworkSpec:
        """`spec` with its widths scaled alike.

        Raises:
            UserError: its widths cannot change, or no widths give that size.
        """
        from nasdistill.growth.plan import Target, fitted, size

        if self.parameters is None:
            return spec
        found = fitted(spec, Target("params", self.parameters, 1.0, SOUGHT))
        reached = size(found, "params")
        if abs(reached / self.parameters - 1) > TOLERANCE:
            raise UserError(
                f"no widths of a network of {spec.model.registered_name!r} give {self.parameters} parameters within "
                f"{TOLERANCE:.0%}: the nearest give {reached}"
            )
        return found
