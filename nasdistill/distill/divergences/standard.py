"""Divergences between the student's beliefs and the teacher's: of probabilities, and of logits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field

from nasdistill.component import Facts
from nasdistill.distill.divergences import DIVERGENCES, Divergence
from nasdistill.distill.logits import softened_divergence


@DIVERGENCES.register("kl")
class KullbackLeibler(Divergence):
    """KL(p_t || p_s) = sum over classes of p_t * log(p_t / p_s), in nats."""

    source = "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), equation 1"

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return softened_divergence(student, teacher)


@DIVERGENCES.register("jensen-shannon")
class JensenShannon(Divergence):
    """JS(p_s, p_t) = (KL(p_s || m) + KL(p_t || m)) / 2 with m = (p_s + p_t) / 2, in nats.

    Symmetric, and at most log 2 for an image, however sure the two are: unlike KL, a generator cannot make it grow
    without bound.
    """

    source = (
        "Lin, Divergence Measures Based on the Shannon Entropy (1991); temperature: released code of Yin et "
        "al., Dreaming to Distill (2020)"
    )

    temperature: float = Field(
        1.0, gt=0, description="T, which softens the probabilities of both; the code of Adaptive DeepInversion has 3"
    )

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        ours, theirs = ((logits / self.temperature).log_softmax(dim=1) for logits in (student, teacher))
        middle = torch.logaddexp(ours, theirs) - math.log(2)
        nats = ours.exp() * (ours - middle) + theirs.exp() * (theirs - middle)
        return nats.sum(dim=1) / 2


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

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if facts.classes == 2:
            for name in self.differs("metric"):
                yield name, "two classes are 1 apart in either"

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        difference = student.softmax(dim=1) - teacher.softmax(dim=1)
        if self.metric == "line":
            return difference.cumsum(dim=1).abs().sum(dim=1)
        return difference.abs().sum(dim=1) / 2


@DIVERGENCES.register("l1")
class AbsoluteDifference(Divergence):
    """Sum over classes of |z_s - z_t|, of logits. Its gradient does not vanish as the student comes near."""

    source = "Fang et al., Data-Free Adversarial Distillation (2019), and its released code"

    def of_images(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return (student - teacher).abs().sum(dim=1)
