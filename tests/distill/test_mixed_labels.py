"""Images with mixed labels: which objectives take them, and what they make of them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nasdistill.distill.objectives import OBJECTIVES, Objective
from tests.distill.losses import logits, loss_of

NEED_CLASSES = {"crd", "dkd", "ofa", "rld"}
ON_LOGITS = [name for name in OBJECTIVES.names() if OBJECTIVES.get(name).bind is Objective.bind]


def test_those_that_need_classes_say_so() -> None:
    assert {name for name in OBJECTIVES.names() if OBJECTIVES.get(name).needs_classes} == NEED_CLASSES


@pytest.mark.parametrize("name", [name for name in ON_LOGITS if name not in NEED_CLASSES])
def test_the_loss_is_linear_in_the_labels(name: str) -> None:
    student, teacher = logits(1), logits(2)
    one, other = torch.tensor([0, 3, 3, 9, 1, 2]), torch.tensor([2, 3, 0, 4, 8, 8])
    mixed = 0.3 * functional.one_hot(one, 10).double() + 0.7 * functional.one_hot(other, 10).double()
    found = []
    for labels in (mixed, one, other):
        torch.manual_seed(0)  # dkpp draws
        found.append(float(loss_of(name, student, teacher, labels)))
    assert found[0] == pytest.approx(0.3 * found[1] + 0.7 * found[2], rel=1e-9)
