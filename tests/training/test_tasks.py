"""Tasks: the losses of a batch."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import nn

from nasdistill.training.batches import Batch
from nasdistill.training.tasks import Supervised, Task

BATCH = Batch(torch.randn(4, 1, 2, 2), torch.tensor([0, 1, 2, 1]), torch.arange(4))


class TwoHeads(nn.Module):
    """Says log(2) for class 0 in its head, and nothing in its auxiliary one."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([2.0, 1.0, 1.0]).log().expand(len(images), 3)

    def forward_with_auxiliary(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self(images), torch.zeros(len(images), 3)


def test_both_heads_learn_in_training_alone() -> None:
    # Probabilities are 1/2, 1/4, 1/4: the mean of -log over the labels is log 2 * (1 + 2 + 2 + 2) / 4.
    expected = torch.tensor(2.0).log() * 7 / 4
    task = Supervised(TwoHeads(), auxiliary_weight=0.4)
    losses = task.train()(BATCH)
    assert losses["cross-entropy"] == pytest.approx(expected.item())
    assert losses["auxiliary"] == pytest.approx(0.4 * torch.tensor(3.0).log().item())
    assert set(task.eval()(BATCH)) == {"cross-entropy"}


def test_smoothing_spreads_the_label() -> None:
    # Cross-entropy with the mixture 0.7 * label + 0.3 * uniform.
    log2 = torch.tensor(2.0).log()
    expected = 0.7 * log2 * 7 / 4 + 0.3 * log2 * 5 / 3
    losses = Supervised(TwoHeads(), label_smoothing=0.3).eval()(BATCH)
    assert losses["cross-entropy"] == pytest.approx(expected.item())


class Linear(nn.Module):
    """Both heads say something of their own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head, self.auxiliary = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(images.flatten(1))
        return logits

    def forward_with_auxiliary(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self(images), self.auxiliary(images.flatten(1))


def test_images_count_in_both_heads_as_their_weights_say() -> None:
    """Against a loop over the images: sum of weight * cross-entropy with the smoothed label, over their number."""
    network, weights = Linear(), [0.5, 2.0, 0.25, 1.5]
    losses = Supervised(network, label_smoothing=0.3, auxiliary_weight=0.4)(
        BATCH._replace(weights=torch.tensor(weights))
    )
    with torch.no_grad():
        for name, factor, logits in zip(
            ("cross-entropy", "auxiliary"), (1.0, 0.4), network.forward_with_auxiliary(BATCH.images), strict=True
        ):
            total = 0.0
            for weight, label, row in zip(weights, BATCH.labels.tolist(), logits.double().numpy(), strict=True):
                log_probabilities = row - numpy.log(numpy.exp(row).sum())
                target = 0.1 + 0.7 * (numpy.arange(3) == label)
                total -= weight * (target * log_probabilities).sum()
            assert losses[name].item() == pytest.approx(factor * total / 4, rel=1e-5)


def test_a_task_says_which_class_forgot_its_losses() -> None:
    with pytest.raises(NotImplementedError, match="Task"):
        Task(nn.Identity())(BATCH)
