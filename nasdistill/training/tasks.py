"""Tasks: a network and what it is asked to minimise, as one module; the loop knows nothing else of a method."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional


class Task(nn.Module):
    """Base of all tasks: `network` is trained and kept; a method adds its teacher, regressors and terms beside it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The named losses of a batch, each weighted already, so that their sum is minimised.

        Args:
            images: float, [N, C, H, W], normalised and augmented.
            labels: int64, [N].
        """
        raise NotImplementedError(type(self).__name__)


class Supervised(Task):
    """Cross-entropy with the labels, and with an auxiliary head's logits where the network has one."""

    def __init__(self, network: nn.Module, label_smoothing: float = 0.0, auxiliary_weight: float = 0.4) -> None:
        super().__init__(network)
        self.label_smoothing = label_smoothing
        self.auxiliary_weight = auxiliary_weight

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits, auxiliary = logits_with_auxiliary(self.network, images)
        losses = {"cross-entropy": functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)}
        if auxiliary is not None:
            loss = functional.cross_entropy(auxiliary, labels, label_smoothing=self.label_smoothing)
            losses["auxiliary"] = self.auxiliary_weight * loss
        return losses


def logits_with_auxiliary(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A network's logits and, in training mode, those of its auxiliary head if it has one.

    In single precision, whatever the network computes in, so that losses do not round.
    """
    if network.training and hasattr(network, "forward_with_auxiliary"):
        logits, auxiliary = cast(Any, network).forward_with_auxiliary(images)
        return logits.float(), None if auxiliary is None else auxiliary.float()
    return network(images).float(), None
