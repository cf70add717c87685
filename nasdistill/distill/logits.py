"""What losses on logits share: the softened divergence, logits that are standardised first, one class and the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.distill.objectives import Objective, Outputs

if TYPE_CHECKING:
    import torch

    from nasdistill.training.batches import Batch


class LogitObjective(Objective):
    """Base of losses that compare the logits of student and teacher; a subclass defines `distance`, or `bind`."""

    weighs_images = True

    standardise: bool = Field(
        False,
        description="shift and scale each image's logits, of both networks, to mean 0 and deviation 1 beforehand "
        "(Sun et al. 2024)",
    )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.weight and self.standardise and facts.classes == 2:
            name = self.registered_name
            yield "weight", f"two logits become -0.71 and 0.71 when standardised, so that {name} has no gradient"

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        return batch.mean(self.distance(*self.compared(student, teacher), batch.labels))

    def compared(self, student: Outputs, teacher: Outputs) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits of both, [N, C] each, standardised where that is asked for."""
        if self.standardise:
            return standardised(student.logits), standardised(teacher.logits)
        return student.logits, teacher.logits

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The unweighted loss of each image, [N], of logits [N, C] each and `Batch.labels`."""
        raise NotImplementedError(type(self).__name__)


def standardised(logits: torch.Tensor) -> torch.Tensor:
    """(z - mean) / (deviation + 1e-7) of each image's logits, [N, C] with C > 1.

    The student need not reach the size of the teacher's logits, only their relations. The deviation divides by C - 1
    and 1e-7 is added to it, as in the released code, with which the published figures were made; the paper divides by
    C and adds nothing. Its form at temperature T is this one at T * sqrt((C - 1) / C).

    Source: Sun et al., Logit Standardization in Knowledge Distillation (2024), and its released code.
    """
    import torch

    deviation, mean = torch.std_mean(logits, dim=1, keepdim=True)
    return (logits - mean) / (deviation + 1e-7)


def softened_divergence(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float | torch.Tensor = 1.0
) -> torch.Tensor:
    """KL(softmax(t/T) || softmax(s/T)) of each image: logits [N, C] to nats [N].

    Papers write the cross-entropy of the two. It is larger by the entropy of the teacher's probabilities, which no
    student can change, so the gradients are equal; this one is 0 where the student agrees.

    Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network (2015), section 2.
    """
    from torch.nn import functional

    ours, theirs = (functional.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1)


def target_and_others(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a class against the rest, [N, 2], and of the rest among themselves, [N, C - 1].

    Args:
        logits: [N, C].
        labels: the class of each image, int64, [N].
    """
    import torch

    target = labels.unsqueeze(1)
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    rest = logits.gather(1, others + (others >= target))
    return torch.cat([logits.gather(1, target), rest.logsumexp(dim=1, keepdim=True)], dim=1), rest
