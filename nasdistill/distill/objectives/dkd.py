"""Decoupled knowledge distillation: how sure the teacher is, and how it ranks the other classes, weigh apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from pydantic import Field

from nasdistill.component import Facts
from nasdistill.distill.logits import LogitObjective, softened_divergence, target_and_others
from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.training.batches import Batch


def decoupled_divergence(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two parts of the softened divergence of each image: logits [N, C] and labels [N] to nats [N], twice.

    With p the softened probability of the label's class:
    target class (TCKD): KL between (p, 1 - p) of teacher and student;
    other classes (NCKD): KL between the probabilities of the other C - 1 classes, each divided by 1 - p.
    KL of all classes = TCKD + (1 - p_teacher) * NCKD.

    Source: Zhao et al., Decoupled Knowledge Distillation (2022), section 3.
    """
    (ours, ours_others), (theirs, theirs_others) = (
        target_and_others(logits / temperature, labels) for logits in (student, teacher)
    )
    return softened_divergence(ours, theirs), softened_divergence(ours_others, theirs_others)


@OBJECTIVES.register("dkd")
class DecoupledKnowledgeDistillation(LogitObjective):
    """T^2 * (alpha*TCKD + beta*NCKD), mean over the batch, added to the whole label term.

    TCKD is the divergence between the probabilities of the label's class and all others, NCKD that among the others,
    which `kd` weighs by the teacher's doubt 1 - p. Published for CIFAR-100 with `warmup: 20` of 240 epochs, and beta 6
    for wide residual networks. T^2 stands in the released code.
    """

    source = "Zhao et al., Decoupled Knowledge Distillation (2022), section 3, and its released code"
    parts = ("alpha", "beta")
    needs_classes = True

    alpha: float = Field(1.0, ge=0, description="weight of the target class (TCKD)")
    beta: float = Field(8.0, ge=0, description="weight of the other classes (NCKD)")
    temperature: float = Field(4.0, gt=0, description="T, which softens the probabilities of both networks")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.weight and self.beta and facts.classes == 2:
            yield (
                "beta",
                "of two classes one is left beside the label's, and nothing to rank (NCKD is 0)",
            )

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        target, others = decoupled_divergence(student, teacher, labels, self.temperature)
        return self.temperature**2 * (self.alpha * target + self.beta * others)

    def report(self, student: Outputs, teacher: Outputs, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Both parts, without their weights and T^2."""
        parts = decoupled_divergence(*self.compared(student, teacher), batch.labels, self.temperature)
        return dict(zip(("target class", "other classes"), map(batch.mean, parts), strict=True))
