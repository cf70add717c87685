"""Networks alone and together: by hand, in loops of numpy, and against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, log_loss

from nasdistill.models.agreement import Answers, agreement, compared, together
from nasdistill.models.ensemble import Average
from nasdistill.training.metrics import BINS, score

IMAGES, CLASSES = 60, 4


def answers(*weights: float | None) -> list[Answers]:
    generator = torch.Generator().manual_seed(2)
    return [
        Answers(f"ban-{number}", 2 * torch.randn(IMAGES, CLASSES, generator=generator), weight)
        for number, weight in enumerate(weights)
    ]


def truth() -> torch.Tensor:
    return torch.randint(CLASSES, (IMAGES,), generator=torch.Generator().manual_seed(4))


def told_of(networks: list[Answers], average: Average) -> dict[str, Any]:
    return compared(networks, truth(), average, score(together(networks, average), truth()))


def test_agreement_by_hand() -> None:
    predicted = [[0, 1, 2, 3], [0, 1, 2, 0], [3, 1, 0, 0]]
    networks = [Answers("", torch.eye(4)[torch.tensor(row)]) for row in predicted]
    assert agreement(networks).tolist() == [[100, 75, 25], [75, 100, 50], [25, 50, 100]]


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_only_members_speak_in_the_ensemble(average: Average) -> None:
    networks = answers(None, 2.0, 1.0)
    first, second = (each.logits.double().numpy() for each in networks[1:])
    expected = (2 * first + second) / 3
    if average == "probabilities":
        expected = np.log((2 * softmax(first, axis=1) + softmax(second, axis=1)) / 3)
    np.testing.assert_allclose(together(networks, average).numpy(), expected, atol=1e-5)


def bins_by_hand(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    bins = np.zeros((BINS, 3))
    for row, label in zip(probabilities, labels, strict=True):
        for number in range(BINS):
            if number / BINS < row.max() <= (number + 1) / BINS:
                bins[number] += 1, row.argmax() == label, row.max()
    return bins


def test_what_is_written_of_each_network_and_of_the_first_members() -> None:
    networks, labels = answers(None, 2.0, 1.0, 4.0), truth()
    told = told_of(networks, "probabilities")
    assert [(each["name"], each["member"]) for each in told["networks"]] == [
        ("ban-0", False),
        ("ban-1", True),
        ("ban-2", True),
        ("ban-3", True),
    ]
    assert [each["members"] for each in told["ensembles"]] == [2, 3]

    alone = [softmax(each.logits.double().numpy(), axis=1) for each in networks]
    first_two = (2 * alone[1] + alone[2]) / 3
    all_three = (2 * alone[1] + alone[2] + 4 * alone[3]) / 7
    answered = labels.numpy()
    for found, probabilities in zip(
        [*told["networks"], *told["ensembles"]], [*alone, first_two, all_three], strict=True
    ):
        assert found["accuracy"] == pytest.approx(100 * accuracy_score(answered, probabilities.argmax(1)))
        assert found["loss"] == pytest.approx(log_loss(answered, probabilities, labels=range(CLASSES)), rel=1e-5)
        bins = bins_by_hand(probabilities, answered)
        np.testing.assert_allclose(found["bins"], bins, atol=1e-5)
        error = sum(abs(correct - sure) for _images, correct, sure in bins) / IMAGES
        assert found["calibration_error"] == pytest.approx(error, abs=1e-6)
    for row, ours in enumerate(alone):
        for column, theirs in enumerate(alone):
            assert told["agreement"][row][column] == pytest.approx(100 * (ours.argmax(1) == theirs.argmax(1)).mean())


def test_the_average_is_the_one_asked_for() -> None:
    networks, labels = answers(1.0, 1.0, 1.0), truth()
    both, _three = told_of(networks, "logits")["ensembles"]
    mean = log_softmax((networks[0].logits + networks[1].logits).double().numpy() / 2, axis=1)
    assert both["loss"] == pytest.approx(-mean[range(IMAGES), labels.numpy()].mean(), rel=1e-5)


def test_a_single_member_makes_no_pair() -> None:
    told = told_of(answers(1.0), "probabilities")
    assert (told["ensembles"], told["agreement"]) == ([], [[100.0]])
