"""Knowledge distillation and its nearest kin: the student's logits are to say what the teacher's say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from nasdistill.distill.logits import LogitObjective, softened_divergence
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs
from nasdistill.registry import ComponentOf

if TYPE_CHECKING:
    import torch

    from nasdistill.training.batches import Batch


@OBJECTIVES.register("kd")
class KnowledgeDistillation(LogitObjective):
    """T^2 * KL(teacher || student) of probabilities softened by T, mean over the batch; labels keep 1 - weight.

    T^2 keeps the gradient's size independent of T: for large T it tends to (s - t) / classes, for logits of mean zero.
    """

    source = "Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network (2015), section 2"
    replaces_labels = True

    weight: float = Field(0.9, ge=0, description="the a of (1-a)*CE(labels) + a*T^2*KL(teacher || student)")
    temperature: float = Field(4.0, gt=0, description="T, which softens the probabilities of both networks")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.temperature**2 * softened_divergence(student, teacher, self.temperature)


@OBJECTIVES.register("kd-mean")
class KnowledgeDistillationMean(KnowledgeDistillation):
    """`kd` divided by the number of classes: torch's `kl_div` with its default reduction, as much released code has it.

    With 10 classes a weight of 2500 here is 250 of `kd`.
    """

    source = "Zagoruyko, Komodakis, Paying More Attention to Attention (2017), its released code"

    weight: float = Field(0.9, ge=0, description="the a of (1-a)*CE(labels) + a*T^2*KL(teacher || student)/classes")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        classes = student.shape[1]
        return self.temperature**2 / classes * softened_divergence(student, teacher, self.temperature)


@OBJECTIVES.register("kd-lambda")
class KnowledgeDistillationLambda(LogitObjective):
    """KL(teacher || student) of probabilities softened by T, mean over the batch, added to the whole label term.

    The report writes the cross-entropy CE(teacher, student); the divergence has its gradients, see
    `softened_divergence`. Lambda here is worth a weight of lambda/T^2 in `kd`.
    """

    source = "Mandal and Mandan, Smaller Networks (CS698O): CE(labels) + lambda*CE(teacher, student)"

    weight: float = Field(1.0, ge=0, description="lambda; the label term keeps its weight of 1")
    temperature: float = Field(4.0, gt=0, description="T, which softens the probabilities of both networks")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return softened_divergence(student, teacher, self.temperature)


@OBJECTIVES.register("ban")
class BornAgain(LogitObjective):
    """Cross-entropy with the teacher's probabilities, mean over the batch, in place of the labels.

    No temperature. The gradients are those of `{name: kd, temperature: 1}`, whose value is smaller by the teacher's
    entropy; `kd` and `logits-mse` are the usual alternatives. Of a weight under 1 the rest is left to the labels.
    """

    source = "Furlanello et al., Born-Again Neural Networks (2018), section 3"
    replaces_labels = True

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.cross_entropy(student, teacher.softmax(dim=1), reduction="none")


@OBJECTIVES.register("ban+label")
class BornAgainWithLabels(BornAgain):
    """Cross-entropy with the teacher's probabilities plus that with the labels, mean over the batch."""

    source = "Furlanello et al., Born-Again Neural Networks (2018), section 3: BAN+L"

    ground_truth: float = Field(1.0, ge=0, description="weight of the labels, beside 1 for the teacher")

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from nasdistill.training.tasks import label_losses

        return super().distance(student, teacher, labels) + self.ground_truth * label_losses(student, labels)


@OBJECTIVES.register("logits-mse")
class LogitsMSE(LogitObjective):
    """Mean over batch and classes of (s - t)^2, of logits, not of probabilities; replaces the labels by default."""

    source = "Ba, Caruana, Do Deep Nets Really Need to be Deep? (2014), equation 1, up to a constant factor"
    replaces_labels = True

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.mse_loss(student, teacher, reduction="none").mean(dim=1)


@OBJECTIVES.register("divergence")
class BeliefDivergence(Objective):
    """A divergence between the predictions of student and teacher, at temperature 1."""

    source = "Micaelli, Storkey, Zero-shot Knowledge Transfer via Adversarial Belief Matching (2019), algorithm 1"
    replaces_labels = True

    divergence: Annotated[Any, ComponentOf("divergences")] = Field(
        "kl", validate_default=True, description="which, e.g. l1 or {name: kl, reduction: batchmean}"
    )

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        distance: torch.Tensor = self.divergence.between(student.logits, teacher.logits)
        return distance
