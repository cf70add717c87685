"""Metrics against scikit-learn and against cases worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn import metrics as sklearn_metrics
from torch import nn

from nasdistill.errors import UserError
from nasdistill.training import metrics
from nasdistill.training.metrics import (
    BINS,
    area_under_roc,
    bin_of,
    calibration_error,
    evaluate,
    in_evaluation_mode,
    logits_of,
    score,
)
from tests.children import InAChild
from tests.together import together
from tests.training.parts import FixedBatches, engine


class Given(nn.Module):
    """Says what its images hold: logits, as [N, classes, 1, 1]."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return images.flatten(1)


def batches_of(logits: torch.Tensor, labels: torch.Tensor) -> FixedBatches:
    return FixedBatches(logits[:, :, None, None], labels, batch_size=7)


def test_all_agree_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(101, 9, generator=generator), torch.randint(0, 9, (101,), generator=generator)
    found = evaluate(Given(), batches_of(logits, labels), engine())
    probabilities = logits.double().softmax(1).numpy()
    classes = numpy.arange(9)
    assert found.accuracy == pytest.approx(100 * sklearn_metrics.accuracy_score(labels, logits.argmax(1)))
    wrong = 101 * sklearn_metrics.zero_one_loss(labels, logits.argmax(1))
    assert found.plain()["misclassified"] == found.misclassified == pytest.approx(wrong)
    assert found.top5 == pytest.approx(
        100 * sklearn_metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=classes)
    )
    assert found.loss == pytest.approx(sklearn_metrics.log_loss(labels, probabilities, labels=classes), rel=1e-5)
    balanced = sklearn_metrics.balanced_accuracy_score(labels, logits.argmax(1))
    assert found.balanced_accuracy == pytest.approx(100 * balanced)
    expected = sklearn_metrics.confusion_matrix(labels, logits.argmax(1), labels=classes)
    assert found.confusion == expected.tolist()


def test_calibration_error_by_hand() -> None:
    # Two classes; a logit difference of log(p / (1 - p)) gives the confidence p.
    # Confidence 0.9, bin 13: two right, one wrong. Confidence 0.6, bin 8: one right, one wrong.
    # ECE = 3/5 * |2/3 - 0.9| + 2/5 * |1/2 - 0.6| = 0.14 + 0.04.
    confidences = torch.tensor([0.9, 0.9, 0.9, 0.6, 0.6])
    logits = torch.stack([torch.zeros(5), (confidences / (1 - confidences)).log()], 1)
    labels = torch.tensor([1, 1, 0, 1, 0])
    found = evaluate(Given(), batches_of(logits, labels), engine())
    assert found.calibration_error == pytest.approx(0.18, abs=1e-6)
    assert found.top5 == 100.0
    expected = numpy.zeros((BINS, 3))
    expected[13], expected[8] = (3, 2, 2.7), (2, 1, 1.2)
    numpy.testing.assert_allclose(found.bins, expected, atol=1e-6)


def test_accuracy_over_classes_by_hand() -> None:
    # Class 0: 8 of 10 right; class 1: none; class 2: 1 of 2 right. Nobody calls anything class 1.
    labels = torch.tensor([0] * 10 + [2] * 2)
    predicted = torch.tensor([0] * 8 + [2] * 2 + [2, 0])
    found = score(torch.eye(3)[predicted], labels)
    assert found.accuracy == pytest.approx(100 * 9 / 12)
    assert found.balanced_accuracy == pytest.approx(100 * (0.8 + 0.5) / 2)
    assert found.imbalance == 5
    assert found.auc is None


def of_one_logit(logit: torch.Tensor) -> torch.Tensor:
    """Logits of two classes, from that of the second one."""
    return torch.stack([torch.zeros_like(logit), logit], 1)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order() -> None:
    generator = torch.Generator().manual_seed(2)
    labels = (torch.rand(90, generator=generator) < 0.2).long()
    logit = (2 * torch.randn(90, generator=generator) + labels).round()  # rounded, so that there are ties
    right = [
        1.0 if second > first else 0.5 if second == first else 0.0
        for second in logit[labels == 1].tolist()
        for first in logit[labels == 0].tolist()
    ]
    assert 0.5 in right
    found = score(of_one_logit(logit), labels)
    assert found.auc == pytest.approx(sum(right) / len(right))
    assert found.plain()["auc"] == found.auc


def test_the_area_under_the_curve_of_two_normal_distributions() -> None:
    """Of N(0, 1) against N(d, 1) it is Phi(d / sqrt(2)): here of their quantiles, d = 1."""
    normal = torch.distributions.Normal(0.0, 1.0)
    quantiles = normal.icdf((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)
    logit, labels = torch.cat([quantiles, quantiles + 1]), torch.tensor([0] * 2000 + [1] * 2000)
    expected = float(normal.cdf(torch.tensor(1 / 2**0.5)))
    assert area_under_roc(of_one_logit(logit), labels) == pytest.approx(expected, abs=1e-3)


def test_the_area_under_the_curve_is_computed_once_and_only_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(metrics, "area_under_roc", lambda logits, truth: asked.append(len(truth)) or 0.25)
    found = score(torch.randn(6, 2), torch.arange(6) % 2)
    assert asked == []
    assert (found.auc, found.plain()["auc"]) == (0.25, 0.25)
    assert asked == [6]


def test_the_area_under_the_curve_at_its_ends() -> None:
    labels = torch.tensor([0, 0, 1])
    sure = of_one_logit(torch.tensor([40.0, 41.0, 42.0]))  # all of probability 1 in single precision
    assert area_under_roc(sure, labels) == 1.0
    assert area_under_roc(sure.flip(0), labels) == 0.0
    assert area_under_roc(torch.ones(3, 2), labels) == 0.5


def test_an_area_that_nobody_can_tell_is_left_out() -> None:
    assert area_under_roc(torch.randn(3, 2), torch.zeros(3, dtype=torch.int64)) is None
    assert area_under_roc(of_one_logit(torch.tensor([0.0, torch.nan])), torch.tensor([0, 1])) is None
    assert "auc" not in score(torch.randn(6, 3), torch.arange(6) % 3).plain()


def test_overconfident_and_underconfident_bins_do_not_cancel() -> None:
    correct, confidence = torch.tensor([4.0, 0.0, 6.0]), torch.tensor([3.0, 0.0, 8.0])
    assert calibration_error(correct, confidence, 20) == pytest.approx(3 / 20)


def test_bins_are_open_below_and_closed_above() -> None:
    edges = torch.arange(1, BINS + 1, dtype=torch.float64) / BINS
    assert bin_of(edges - 1e-9).tolist() == list(range(BINS))
    assert bin_of(edges + 1e-9)[:-1].tolist() == list(range(1, BINS))
    assert bin_of(torch.tensor([1.0])).tolist() == [BINS - 1]


def test_every_module_keeps_its_mode() -> None:
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1))
    network.train()
    network[1].eval()  # frozen statistics must stay frozen
    with in_evaluation_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == [True, True, False]


def test_bf16_is_scored_in_single_precision() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    seen: list[torch.dtype] = []
    network.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    images, labels = torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    found = evaluate(network, FixedBatches(images, labels, 3), engine("bf16"))
    assert seen == [torch.bfloat16, torch.bfloat16]
    exact = evaluate(network, FixedBatches(images, labels, 3), engine("32"))
    assert found.loss == pytest.approx(exact.loss, rel=1e-2)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_no_score(value: float) -> None:
    logits = torch.zeros(6, 3)
    logits[4:, 1] = value
    with pytest.raises(UserError, match="logits of 2 of 6 images are no numbers"):
        evaluate(Given(), batches_of(logits, torch.zeros(6, dtype=torch.long)), engine())


def test_processes_share_whole_batches_and_have_all_logits(in_a_child: InAChild, tmp_path: Path) -> None:
    """Three batches and one, in two processes, by a norm over whatever batch it sees."""
    logits, labels = torch.randn(19, 3), torch.arange(19) % 3
    norm = nn.BatchNorm2d(3, affine=False, track_running_stats=False)
    network = nn.Sequential(norm, Given())

    def act(rank: int) -> None:
        ran: list[int] = []
        network.register_forward_hook(lambda _module, _inputs, output: ran.append(len(output)))
        ours = engine()
        with ours.shared_statistics():
            found, truth = logits_of(network, batches_of(logits, labels), ours)
            assert ran == [[7], [7, 5]][rank]
            few, _truth = logits_of(network, batches_of(logits[:5], labels[:5]), ours)
        save_file({"found": found, "truth": truth, "few": few}, tmp_path / str(rank))

    assert together(act) == [0, 0]
    expected = [(part - part.mean(0)) / (part.var(0, correction=0) + norm.eps).sqrt() for part in logits.split(7)]
    for rank in range(2):
        told = load_file(tmp_path / str(rank))
        torch.testing.assert_close(told["found"], torch.cat(expected))
        assert torch.equal(told["truth"], labels)
        torch.testing.assert_close(
            told["few"], (logits[:5] - logits[:5].mean(0)) / (logits[:5].var(0, correction=0) + norm.eps).sqrt()
        )
