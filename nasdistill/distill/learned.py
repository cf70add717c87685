"""Losses that learn: an objective whose loss has parameters, and may look at the training images beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from nasdistill.distill.objectives import Outputs
from nasdistill.training.batches import Batch


@dataclass(frozen=True)
class Preview:
    """What a loss may look at before training starts.

    Attributes:
        labels: of all training images, by their place in the set: int64, [images].
        outputs: one pass over the training images in a fixed order: of each batch the outputs of the student as it
            stands, the teacher's, and the batch; in evaluation mode, without gradients.
        seed: for draws that the loss makes.
    """

    labels: torch.Tensor
    outputs: Callable[[], Iterator[tuple[Outputs, Outputs, Batch]]]
    seed: int


class LearnedLoss(nn.Module):
    """Base of losses with parameters; `forward(student, teacher, batch)` is the unweighted loss, a scalar.

    All that decides what follows belongs into parameters and buffers, so that a checkpoint holds it.
    """

    def prepare(self, preview: Preview) -> None:
        """Called once before training, on the device; also before training goes on from a checkpoint."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch, counted from 0, also where training goes on in the middle of it.

        Where there are no epochs, as in zero-shot transfer, each pseudo-batch is one; see `Objective.counts_epochs`.
        """

    def end_epoch(self) -> dict[str, float]:
        """Called at an epoch's end; returns what else there is to tell of it, by name."""
        return {}

    def stop_reason(self) -> str | None:
        """Why training should end with the epoch that has just ended, or None."""
        return None


@torch.no_grad()
def reinitialise(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise linear layers and convolutions anew: uniform within 1/sqrt(inputs), as torch does by default.

    Args:
        generator: on the CPU, so that every device has the same weights, whatever else this process has drawn.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            for parameter in layer.parameters():
                parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
