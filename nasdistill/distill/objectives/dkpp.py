"""DKPP: the teacher's probabilities, those of wrong classes shuffled."""

from __future__ import annotations

import torch
from torch.nn import functional

from nasdistill.distill.logits import LogitObjective
from nasdistill.distill.objectives import OBJECTIVES


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

    def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(student, permuted_predictions(teacher.softmax(dim=1)), reduction="none")
