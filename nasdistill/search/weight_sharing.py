"""What searches by gradient train: one network that holds all alternatives of a space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from nasdistill.training.processes import all_reduce_sum

if TYPE_CHECKING:
    from nasdistill.data.loaders import ImageBatches
    from nasdistill.training.engine import Engine


class WeightSharing(nn.Module):
    """Base of all supernets."""

    def alphas(self) -> list[nn.Parameter]:
        """What is learned of the architecture, each once; empty where nothing is."""
        raise NotImplementedError(type(self).__name__)

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        alphas = {id(alpha) for alpha in self.alphas()}
        return [parameter for parameter in self.parameters() if id(parameter) not in alphas]


@torch.no_grad()
def accuracy_of(
    logits: Callable[[torch.Tensor], torch.Tensor], batches: ImageBatches, epoch: int, engine: Engine
) -> float:
    """Accuracy in percent on one epoch's batches, over all processes."""
    right = seen = torch.zeros((), device=engine.device)
    for batch in batches.epoch(epoch):
        with engine.autocast():
            answers = logits(batch.images).argmax(dim=1)
        right = right + (answers == batch.labels).sum()
        seen = seen + len(batch.labels)
    return float(100 * all_reduce_sum(right) / all_reduce_sum(seen))
