"""What a network costs, which is a strong proxy for what it promises: list it beside every other."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from nasdistill.models.inspection import count_parameters, multiply_adds
from nasdistill.search.proxies import PROXIES, Proxy


@PROXIES.register("params")
class Params(Proxy):
    """The number of parameters."""

    source: ClassVar[str] = "White et al. 2022, A Deeper Look at Zero-Cost Proxies for Lightweight NAS"

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        return float(count_parameters(network))


@PROXIES.register("flops")
class Flops(Proxy):
    """The multiply-adds of one image."""

    source: ClassVar[str] = "White et al. 2022, A Deeper Look at Zero-Cost Proxies for Lightweight NAS"

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        channels, height, width = images.shape[1:]
        return float(multiply_adds(network, (channels, height, width)))
