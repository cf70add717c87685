"""A growth rule by another score: units whose batch norms scale most grow first."""

from __future__ import annotations

import torch

from nasdistill.growth.importance import unit_points
from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.stepwise import GrowthRule
from nasdistill.growth.student import Student


@GROWTH_METHODS.register("norm-scale")
class NormScale(GrowthRule):
    """Widens the unit whose batch norms have the largest scales on average, scores again, and so on."""

    source = "Liu et al. 2017, Learning efficient convolutional networks through network slimming"

    def scores(self, student: Student) -> dict[str, float]:
        """The mean of |gamma| over all batch norms that a unit's channels pass."""
        scales = dict(student.network.named_parameters())
        points = unit_points(student.spec, student.network, "after-norm")
        return {
            unit: torch.cat([scales[f"{norm.path}.weight"][norm.start : norm.stop] for norm in norms])
            .abs()
            .mean()
            .item()
            for unit, norms in points.items()
        }
