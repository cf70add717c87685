"""What searches by gradient train: one network that holds all alternatives of a space."""

from __future__ import annotations

from torch import nn


class WeightSharing(nn.Module):
    """Base of all supernets."""

    def alphas(self) -> list[nn.Parameter]:
        """What is learned of the architecture, each once; empty where nothing is."""
        raise NotImplementedError(type(self).__name__)

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        alphas = {id(alpha) for alpha in self.alphas()}
        return [parameter for parameter in self.parameters() if id(parameter) not in alphas]
