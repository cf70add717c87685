"""The Wasserstein distance between the student's probabilities and the teacher's."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from nasdistill.distill.divergences import DIVERGENCES, Divergence


@DIVERGENCES.register("wasserstein")
class Wasserstein(Divergence):
    """W1(p_s, p_t): the least probability, times the distance that it is moved, that turns one into the other.

    How far two classes lie apart is the metric. Where any two are 1 apart, it is the total variation,
    sum |p_s - p_t| / 2. Where they stand in a line, 1 apart from the next, it is the sum of the differences of the
    cumulative probabilities, sum |P_s - P_t|.
    """

    source = (
        "Villani, Optimal Transport, Old and New (2009), definition 6.1; on the line: Vallender, Calculation of the "
        "Wasserstein Distance between Probability Distributions on the Line (1974)"
    )

    metric: Literal["discrete", "line"] = Field(
        "discrete",
        description="discrete: any two classes are 1 apart, for classes without an order; line: classes are as far "
        "apart as their numbers, for those with one, such as ages",
    )

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        difference = student.softmax(dim=1) - teacher.softmax(dim=1)
        if self.metric == "line":
            return difference.cumsum(dim=1).abs().sum(dim=1)
        return difference.abs().sum(dim=1) / 2
