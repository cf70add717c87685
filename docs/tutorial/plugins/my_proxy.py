"""A proxy: how far an untrained network carries a little noise on the images."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from nasdistill.search.proxies import PROXIES, Proxy


@PROXIES.register("expressivity")
class Expressivity(Proxy):
    """log of the mean distance of the logits between an image and the same one with noise added."""

    source = "Lin et al. 2021, Zen-NAS (arXiv:2102.01063), whose score also takes out what batch norms scale away"

    noise: float = Field(0.01, gt=0, description="standard deviation of the noise")

    @torch.no_grad()
    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        moved = network(images + self.noise * torch.randn_like(images)) - network(images)
        return float(moved.norm(dim=1).mean().log())
