"""Tasks: a network and what it is asked to minimise, as one module; the loop knows nothing else of a method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import UserError
from nasdistill.training.batches import NO_LABEL, Batch, Batches
from nasdistill.training.history import scores
from nasdistill.training.metrics import evaluate
from nasdistill.training.resizing import as_read

if TYPE_CHECKING:
    from nasdistill.training.engine import Engine


class Task(nn.Module):
    """Base of all tasks: `network` is trained and kept; a method adds its teacher, regressors and terms beside it."""

    leaves_weights = False
    """Whether losses may send no gradient to some weights, as those on features send none to the classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._reported: dict[str, torch.Tensor | float] = {}

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The named losses of a batch, each weighted already, so that their sum is minimised; it may `report` more."""
        raise NotImplementedError(type(self).__name__)

    def report(self, name: str, value: torch.Tensor | float) -> None:
        """Show a number of the present batch without training on it; the curve `name` has its mean over the epoch.

        Each batch reports the same names.

        Raises:
            UserError: it is neither a number nor a scalar tensor.
        """
        if (isinstance(value, torch.Tensor) and value.ndim) or not isinstance(value, torch.Tensor | int | float):
            got = list(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise UserError(f"{name!r}, which is reported, must be a number or a scalar tensor, got {got}")
        self._reported[name] = value

    def take_reported(self) -> dict[str, torch.Tensor | float]:
        """What was reported since the last call."""
        taken, self._reported = self._reported, {}
        return taken

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Called before the first step of an epoch, also where training goes on in the middle of it.

        Drop path of a network that has it rises linearly with the epochs, from none towards its maximum.

        Args:
            epoch: counted from 0.
            epochs: of the whole training.
        """
        if hasattr(self.network, "set_drop_path"):
            network = cast(Any, self.network)
            network.set_drop_path(network.drop_path * epoch / epochs)

    def end_epoch(self) -> dict[str, float]:
        """Called after the last step of an epoch; returns what else there is to tell of it, by name."""
        return {}

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """What the learning rates of parameters are of the schedule's, where they differ from it."""
        return {}

    def stop_reason(self) -> str | None:
        """Why training should end with the epoch that has just ended, or None."""
        return None

    def score(self, network: nn.Module, validation: Batches, test: Batches, engine: Engine) -> dict[str, float]:
        """The curves that an evaluation adds to, see `nasdistill.training.history`; it changes no weights.

        Args:
            network: `self.network`, or an average of its weights.
        """
        return scores(evaluate(network, validation, engine), evaluate(network, test, engine))


class Supervised(Task):
    """Cross-entropy with the labels, and with an auxiliary head's logits where the network has one.

    Both are means over the images of a batch, each with its weight.
    """

    def __init__(self, network: nn.Module, label_smoothing: float = 0.0, auxiliary_weight: float = 0.4) -> None:
        super().__init__(network)
        self.label_smoothing = label_smoothing
        self.auxiliary_weight = auxiliary_weight

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        logits, auxiliary = logits_with_auxiliary(self.network, batch.images)
        losses = {"cross-entropy": label_loss(logits, batch, self.label_smoothing)}
        if auxiliary is not None:
            losses["auxiliary"] = self.auxiliary_weight * label_loss(auxiliary, batch, self.label_smoothing)
        return losses


def label_loss(logits: torch.Tensor, batch: Batch, label_smoothing: float) -> torch.Tensor:
    """Cross-entropy of logits [N, classes] with their batch's labels, mixed or not: the weighted mean over images.

    Those without a label count as images with the loss 0.
    """
    return batch.mean(label_losses(logits, batch.labels, label_smoothing))


def label_losses(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy of each image, [N], with labels as in `Batch`; 0 where there is none."""
    if labels.is_floating_point():  # torch would smooth what is missing of a label, and that of an image without one
        spread = labels.sum(dim=1, keepdim=True) / labels.shape[1]
        return functional.cross_entropy(logits, torch.lerp(labels, spread, label_smoothing), reduction="none")
    return functional.cross_entropy(
        logits, labels, ignore_index=NO_LABEL, reduction="none", label_smoothing=label_smoothing
    )


def logits_with_auxiliary(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A network's logits and, in training mode, those of its auxiliary head if it has one.

    In single precision, whatever the network computes in, so that losses do not round.
    """
    if network.training and hasattr(network, "forward_with_auxiliary"):
        logits, auxiliary = cast(Any, network).forward_with_auxiliary(as_read(network, images))
        return logits.float(), None if auxiliary is None else auxiliary.float()
    return network(images).float(), None
