"""Images that weigh: an objective says whether it reads their weights, and what it makes of them."""

from __future__ import annotations

import numpy
import pytest
import torch

from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.training.batches import Batch
from tests.distill.losses import DOUBLE, logits, loss_of

WEIGHTS = torch.tensor([0.25, 3.0, 0.5, 1.0, 0.75, 0.5], dtype=DOUBLE)
LABELS = torch.tensor([0, 3, 3, 9, 1, 2])
ALONE = ("cross-entropy", "kd", "kd-mean", "kd-lambda", "logits-mse", "dkd", "ban", "ban+label", "ttm", "wttm", "rld")
TOGETHER = ("dist", "dkpp", "cwtm", "mlkd")
ELSEWHERE = ("ctkd", "ofa", "simkd", "token")  # whose tests have them weighed


def weighed(name: str) -> float:
    batch = Batch(torch.empty(0), LABELS, torch.arange(6), weights=WEIGHTS)
    loss = OBJECTIVES.parse(name).loss(Outputs(logits(1), {}), Outputs(logits(2), {}), batch)
    return float(loss)


def test_those_that_read_weights_say_so() -> None:
    assert {name for name in OBJECTIVES.names() if OBJECTIVES.get(name).weighs_images} == {
        *ALONE,
        *TOGETHER,
        *ELSEWHERE,
    }


@pytest.mark.parametrize("name", ALONE)
def test_the_loss_is_the_weighted_mean_over_the_images_one_by_one(name: str) -> None:
    student, teacher = logits(1), logits(2)
    each = [loss_of(name, student[[i]], teacher[[i]], LABELS[[i]]) for i in range(6)]
    expected = sum(weight * float(loss) for weight, loss in zip(WEIGHTS.tolist(), each, strict=True)) / 6
    assert weighed(name) == pytest.approx(expected, rel=1e-9)


def test_confidences_and_weights_multiply() -> None:
    """Against numpy: N * sum of w * confidence / (sum of confidences) * cross-entropy, over N."""
    student, teacher = (
        each.numpy() - numpy.log(numpy.exp(each.numpy()).sum(1, keepdims=True)) for each in (logits(1), logits(2))
    )
    confidence = numpy.exp(teacher).max(1)
    losses = -student[numpy.arange(6), LABELS.numpy()]
    expected = (WEIGHTS.numpy() * confidence / confidence.sum() * losses).sum()
    assert weighed("cwtm") == pytest.approx(expected, rel=1e-9)


def test_the_relations_of_a_batch_weigh_as_its_mean_image() -> None:
    """Against numpy: correlations over the classes with each image's weight, over the images with the mean weight."""
    ours, theirs = (each.softmax(1).numpy() for each in (logits(1), logits(2)))
    inter = [1 - numpy.corrcoef(ours[i], theirs[i])[0, 1] for i in range(6)]
    intra = [1 - numpy.corrcoef(ours[:, c], theirs[:, c])[0, 1] for c in range(10)]
    expected = numpy.mean(WEIGHTS.numpy() * inter) + WEIGHTS.numpy().mean() * numpy.mean(intra)
    assert weighed("dist") == pytest.approx(expected, rel=1e-6)
