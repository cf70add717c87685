"""CWTM: the labels, each image weighed by how sure the teacher is of it."""

from __future__ import annotations

import torch
from torch.nn import functional

from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs
from nasdistill.training.batches import Batch
from nasdistill.training.processes import all_reduce_sum, world_size


def confidence_weights(teacher: torch.Tensor) -> torch.Tensor:
    """max_c p(c) of each image over the sum of them all: the teacher's logits [N, C] to [N].

    Where several processes share a batch, the weights of all its images add up to 1.

    Source: Furlanello et al., Born-Again Neural Networks (2018): confidence weighted by teacher max.
    """
    confidence = teacher.softmax(dim=1).amax(dim=1)
    return confidence / all_reduce_sum(confidence.sum())


@OBJECTIVES.register("cwtm")
class ConfidenceWeighted(Objective):
    """Cross-entropy with the labels, each image weighed by its teacher's highest probability over the batch's sum.

    A control: how much of a born-again student's gain comes from counting easy images more. The weights of a batch add
    up to 1, so that the sum is as large as the mean of plain cross-entropy; released code divides by the batch again.
    """

    source = "Furlanello et al., Born-Again Neural Networks (2018): CWTM"
    replaces_labels = True
    weighs_images = True

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        losses = functional.cross_entropy(student.logits, batch.labels, reduction="none")
        weights = confidence_weights(teacher.logits)
        # The processes hold as many images each, and their gradients are averaged.
        return batch.mean(len(losses) * world_size() * weights * losses)
