"""Refined logit distillation: nothing that the teacher says against the label is learned from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from pydantic import Field

from nasdistill.component import Facts
from nasdistill.distill.logits import LogitObjective, softened_divergence, target_and_others
from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.training.batches import Batch

OUT_OF_REACH = -1e9
"""Logit of a class that is left out: its probability is 0 in any precision, and differences stay finite."""


def confidence_divergence(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """KL between (p, 1 - p) of the teacher's likeliest class and (q, 1 - q) of the student's label: [N], in nats.

    The student is to be as sure of the label as the teacher is of whatever it takes for right.

    Args:
        student, teacher: logits, [N, C].
        labels: int64, [N].

    Source: Sun et al., Knowledge Distillation with Refined Logits (2024), section 3: sample confidence.
    """
    ours, _ = target_and_others(student / temperature, labels)
    theirs, _ = target_and_others(teacher / temperature, teacher.argmax(dim=1))
    return softened_divergence(ours, theirs)


def masked_divergence(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """KL among the classes that the teacher finds less likely than the label: [N], in nats; 0 where there are none.

    Args:
        student, teacher: logits, [N, C].
        labels: int64, [N].

    Source: Sun et al., Knowledge Distillation with Refined Logits (2024), section 3: masked correlation.
    """
    mask = teacher >= teacher.gather(1, labels.unsqueeze(1))
    ours, theirs = ((logits / temperature).masked_fill(mask, OUT_OF_REACH) for logits in (student, teacher))
    return softened_divergence(ours, theirs)


@OBJECTIVES.register("rld")
class RefinedLogitDistillation(LogitObjective):
    """alpha * confidence + beta * correlation, mean over the batch, added to the whole label term.

    confidence: the divergence between how sure the teacher is of its likeliest class, and the student of the label;
    correlation: T^2 * the divergence among the classes that the teacher finds less likely than the label.
    Where the teacher is right it is `dkd`, but for the temperature of the first part. Where it is wrong, its mistake
    and all classes that it prefers to the label teach nothing. Published for CIFAR-100 with `warmup: 20` of 240 epochs.
    The constants and the squares of the temperatures stand in the released code.
    """

    source = "Sun et al., Knowledge Distillation with Refined Logits (2024), section 3, and its released code"
    parts = ("alpha", "beta")
    needs_classes = True

    alpha: float = Field(1.0, ge=0, description="weight of the confidence")
    beta: float = Field(8.0, ge=0, description="weight of the correlation among the less likely classes")
    alpha_temperature: float = Field(1.0, gt=0, description="temperature of the confidence, of both networks")
    temperature: float = Field(4.0, gt=0, description="T of the correlation, of both networks")

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.weight and self.beta and facts.classes == 2:
            yield "beta", "of two classes one is left beside the label's, and nothing to correlate"
        if self.weight and not self.alpha:
            for name in self.differs("alpha_temperature"):
                yield name, "alpha is 0"
        if self.weight and not self.beta:
            for name in self.differs("temperature"):
                yield name, "beta is 0"

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        confidence = confidence_divergence(student, teacher, labels, self.alpha_temperature)
        correlation = masked_divergence(student, teacher, labels, self.temperature)
        return self.alpha * self.alpha_temperature**2 * confidence + self.beta * self.temperature**2 * correlation

    def report(self, student: Outputs, teacher: Outputs, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Both parts, without their weights and the squares of the temperatures."""
        ours, theirs = self.compared(student, teacher)
        return {
            "confidence": batch.mean(confidence_divergence(ours, theirs, batch.labels, self.alpha_temperature)),
            "correlation": batch.mean(masked_divergence(ours, theirs, batch.labels, self.temperature)),
        }
