"""What searches by gradient train: one network that holds all alternatives of a space."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from nasdistill.errors import UserError


class WeightSharing(nn.Module):
    """Base of all supernets."""

    def alphas(self) -> list[nn.Parameter]:
        """What is learned of the architecture, each once; empty where nothing is."""
        raise NotImplementedError(type(self).__name__)

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        alphas = {id(alpha) for alpha in self.alphas()}
        return [parameter for parameter in self.parameters() if id(parameter) not in alphas]

    def state(self) -> dict[str, torch.Tensor]:
        """As `state_dict`, with what is shared under its first name alone."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copy in what `state` returned.

        Raises:
            UserError: it is of another supernet.
        """
        present = self.state()
        if present.keys() != state.keys():
            raise UserError("the checkpoint is of another supernet; remove it to search anew")
        with torch.no_grad():
            for name, value in present.items():
                value.copy_(state[name])
