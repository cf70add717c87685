"""Cross-entropy with the labels, listed or implied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from nasdistill.component import Facts
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs
from nasdistill.errors import SpecError

if TYPE_CHECKING:
    import torch

    from nasdistill.training.batches import Batch


@OBJECTIVES.register("cross-entropy")
class CrossEntropy(Objective):
    """Cross-entropy of the student with the labels, mean over the batch; the label term where it is not implied."""

    source = "Goodfellow, Bengio, Courville, Deep Learning (2016), section 6.2.1"
    weighs_images = True

    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target that is spread over all classes (Szegedy et al. 2016)"
    )

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        if self.weight:
            yield from super().without_effect(facts)
        else:  # which keeps the labels out, as they are not where nothing is listed
            for name in self.differs("label_smoothing", "warmup"):
                yield name, "the labels have the weight 0"

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        from nasdistill.training.tasks import label_loss

        return label_loss(student.logits, batch, self.label_smoothing)


def with_label_term(objectives: Sequence[Objective], label_smoothing: float = 0.0) -> list[Objective]:
    """The objectives with the label term that they imply.

    Where no `cross-entropy` is listed, it is added with the weight 1 - (sum of the weights of the objectives that
    replace labels, such as `kd`): `kd` of weight a alone becomes the published (1-a)*CE + a*T^2*KL, and `attention`
    alone CE + beta*AT. A listed `cross-entropy`, of weight 0 too, takes precedence.

    Raises:
        SpecError: the weights leave less than nothing to the labels; or label smoothing is asked for beside a listed
            cross-entropy, which has its own.
    """
    if any(isinstance(objective, CrossEntropy) for objective in objectives):
        if label_smoothing:
            raise SpecError(
                f"label_smoothing {label_smoothing:g} belongs into the listed objective "
                f"{{name: cross-entropy, label_smoothing: {label_smoothing:g}}}",
                ("label_smoothing",),
            )
        return list(objectives)
    replaced = sum(objective.weight for objective in objectives if objective.replaces_labels)
    # Decimal weights such as 0.7, 0.2 and 0.1 do not add up to 1 exactly.
    left = 0.0 if abs(1 - replaced) < 1e-9 else 1 - replaced
    if left < 0:
        raise SpecError(
            f"the weights of objectives that replace labels add up to {replaced:g}, which leaves {left:g} to the "
            "labels; list {name: cross-entropy, weight: ...} to say what they weigh",
            ("objectives",),
        )
    return [CrossEntropy(weight=left, label_smoothing=label_smoothing), *objectives] if left else list(objectives)
