"""What tests of growing networks share."""

from __future__ import annotations

from torch import nn


def draw_norms(network: nn.Module, bound: float = 1.0) -> None:
    """Draw statistics, scales and shifts of all batch norms, means and shifts up to `bound`: none hides a mistake."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -bound, bound)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.uniform_(norm.bias, -bound, bound)
