"""The task of a network that was trained before: parts of it learn at rates of their own, or stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasdistill.training.tasks import Supervised


class FineTuning(Supervised):
    """Cross-entropy with the labels, by some of a network's parameters.

    A batch norm none of whose parameters learn is in evaluation mode, so that its statistics stay too.

    Args:
        factors: of the learning rate, by the names of all parameters of `network`; those of factor 0 stay as they are.
        options: see `Supervised`.
    """

    def __init__(self, network: nn.Module, factors: Mapping[str, float], **options: Any) -> None:
        super().__init__(network, **options)
        self.factors = factors
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(factors[name] > 0)

    def rate_factors(self) -> dict[nn.Parameter, float]:
        return {parameter: self.factors[name] for name, parameter in self.network.named_parameters()}

    def train(self, mode: bool = True) -> FineTuning:
        super().train(mode)
        for norm in batch_norms(self.network).values():
            if not any(parameter.requires_grad for parameter in norm.parameters()):
                norm.eval()
        return self


def batch_norms(network: nn.Module) -> dict[str, nn.Module]:
    """The batch norms of a network, by path."""
    return {path: part for path, part in network.named_modules() if isinstance(part, _BatchNorm)}
