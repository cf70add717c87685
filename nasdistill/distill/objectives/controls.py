"""Controls of born-again networks: what a student gains from parts of what its teacher's outputs say."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from nasdistill.component import Facts
from nasdistill.distill.logits import LogitObjective
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
    needs_labels = True

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        losses = functional.cross_entropy(student.logits, batch.labels, reduction="none")
        weights = confidence_weights(teacher.logits)
        # The processes hold as many images each, and their gradients are averaged.
        return batch.mean(len(losses) * world_size() * weights * losses)


def permuted_predictions(probabilities: torch.Tensor) -> torch.Tensor:
    """Shuffle each row, [N, C], apart from its largest value: every order of the others is equally likely.

    Draws from torch's global generator of the tensor's device.

    Source: Furlanello et al., Born-Again Neural Networks (2018): dark knowledge with permuted predictions.
    """
    largest = probabilities.argmax(dim=1, keepdim=True)
    others = torch.arange(probabilities.shape[1] - 1, device=probabilities.device)
    places = others + (others >= largest)  # [N, C - 1]: the columns of all but the largest
    drawn = torch.rand(places.shape, device=probabilities.device).argsort(dim=1)
    return probabilities.scatter(1, places, probabilities.gather(1, places.gather(1, drawn)))


@OBJECTIVES.register("dkpp")
class PermutedPredictions(LogitObjective):
    """Cross-entropy with the teacher's probabilities, all but the largest of each image shuffled anew at each step.

    A control: how much of a born-again student's gain comes from its teacher's probabilities of wrong classes. The
    likeliest class and all values stay; which value belongs to which wrong class is lost.
    """

    source = "Furlanello et al., Born-Again Neural Networks (2018): DKPP"
    replaces_labels = True

    def without_effect(self, facts: Facts) -> Iterator[tuple[str, str]]:
        yield from super().without_effect(facts)
        if self.weight and facts.classes == 2:
            yield "the shuffling of dkpp", "of two classes one is left beside the likeliest, so that this is `ban`"

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(student, permuted_predictions(teacher.softmax(dim=1)), reduction="none")
