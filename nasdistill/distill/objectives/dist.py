"""DIST: the student's probabilities correlate with the teacher's, over classes and over images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch.nn import functional

from nasdistill.component import Facts
from nasdistill.distill.logits import LogitObjective
from nasdistill.distill.objectives import OBJECTIVES


def correlation_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - Pearson's correlation of each row, [rows, columns] to [rows]; 1 where a row is constant.

    Source: Huang et al., Knowledge Distillation from A Stronger Teacher (2022), section 4.
    """
    ours, theirs = (values - values.mean(dim=1, keepdim=True) for values in (student, teacher))
    # Bounds the norms from below by 1e-8, which the released code adds to their product.
    return 1 - functional.cosine_similarity(ours, theirs, dim=1)


@OBJECTIVES.register("dist")
class Dist(LogitObjective):
    """T^2 * (beta*inter + gamma*intra) of probabilities softened by T, added to the whole label term.

    inter: 1 - the correlation of an image's probabilities over the classes, mean over the images;
    intra: 1 - the correlation of a class's probabilities over the batch, mean over the classes.
    Unlike a divergence, neither makes the student match the teacher's confidence. T^2 stands in the released code.
    """

    source = "Huang et al., Knowledge Distillation from A Stronger Teacher (2022), section 4, and its released code"
    parts = ("beta", "gamma")

    beta: float = Field(1.0, ge=0, description="weight of the relations between the classes of an image")
    gamma: float = Field(1.0, ge=0, description="weight of the relations between the images of a batch, class by class")
    temperature: float = Field(1.0, gt=0, description="T, which softens the probabilities of both networks")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.weight and self.beta and facts.classes == 2:
            yield "beta", "over two classes the correlation is 1 or -1, which has no gradient"

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        ours, theirs = ((logits / self.temperature).softmax(dim=1) for logits in (student, teacher))
        inter = correlation_distance(ours, theirs)
        intra = correlation_distance(ours.T, theirs.T).mean()
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)
