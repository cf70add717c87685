"""SimKD: the student answers with its teacher's classifier, and learns to give it what the teacher's layers do."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.distill.matching import vectors
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.distill.taps import INPUT, Taps
from nasdistill.errors import UserError
from nasdistill.models.inspection import blank_image
from nasdistill.models.reused_classifier import ReusedClassifierNetwork, classifier_path
from nasdistill.models.simulated_int8 import SimulatedInt8
from nasdistill.training.batches import Batch
from nasdistill.training.modes import in_evaluation_mode


@OBJECTIVES.register("simkd")
class SimKD(Objective):
    """Squared difference of the teacher's embedding and what the student's projector gives, in place of the labels.

    A mean over the batch and the embedding's values. The student is the model `reused-classifier`, whose classifier
    becomes the teacher's when this begins, and is not trained. The released code aligns maps in front of the pooling,
    which few networks name; this aligns what the classifier reads. The weight and the lack of labels are the released
    command's.
    """

    source = "Chen et al., Knowledge Distillation with the Reused Teacher Classifier (2022), section 3, and its code"
    replaces_labels = True
    weighs_images = True
    of_one_teacher = True

    weight: float = Field(1.0, ge=0, description="the a of (1-a)*CE(labels) + a*loss")

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        projector, reusing = _reusing(student)
        path = classifier_path(teacher, shape, "teacher")
        point = path + INPUT
        classifier = teacher.get_submodule(path)
        assert isinstance(classifier, nn.Linear)
        if classifier.in_features != reusing.classifier.in_features:
            raise UserError(
                f"the teacher's classifier reads {classifier.in_features} values, and the student's projector gives "
                f"{reusing.classifier.in_features}; give the student `features: {classifier.in_features}`"
            )
        if reusing.is_rectified and _smallest(teacher, point, shape) < 0:
            raise UserError(
                "the teacher's embedding has negative values, which a rectifier never gives; give the student "
                "`rectified: false`"
            )
        reusing.reuse(classifier)

        def loss(student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
            ours, theirs = vectors(student.features[projector]), vectors(teacher.features[point])
            return batch.mean((ours - theirs).square().mean(dim=1))

        return Term(loss, (projector,), (point,))


def _reusing(student: nn.Module) -> tuple[str, ReusedClassifierNetwork]:
    """The path of the projector, and the network that reuses a classifier, be it computed in 8 bits."""
    in_8_bits = isinstance(student, SimulatedInt8)
    path, network = ("network.projector", student.network) if in_8_bits else ("projector", student)
    if not isinstance(network, ReusedClassifierNetwork):
        raise UserError(
            "the student has no place for its teacher's classifier; take the model "
            "`{name: reused-classifier, model: STUDENT, features: VALUES}` as the student"
        )
    return path, network


def _smallest(network: nn.Module, point: str, shape: Shape) -> float:
    """Of the values at a point, for some images of noise."""
    blank = blank_image(network, shape).repeat(8, 1, 1, 1)
    noise = torch.randn(blank.shape, generator=torch.Generator().manual_seed(0)).to(blank)
    with in_evaluation_mode(network), torch.no_grad(), Taps(network, [point], "teacher") as features:
        network(noise)
    return float(features[point].min())
