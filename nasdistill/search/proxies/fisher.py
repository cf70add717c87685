"""Fisher scores of channels, by which teachers grow, summed over a network."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from nasdistill.growth.importance import effects_of_scaling
from nasdistill.search.proxies import PROXIES, Proxy
from nasdistill.search.saliency import summed


@PROXIES.register("fisher")
class Fisher(Proxy):
    """Sum over the channels of all convolutions and linear layers of 1/(2N) sum_n g_nc^2.

    g_nc is the derivative of image n's loss with respect to a factor on channel c, as where teachers grow; but here the
    batch norms take the statistics of the batch, as networks before training have no others.
    """

    source: ClassVar[str] = (
        "Theis et al. 2018 (arXiv:1801.05787), section 2.2; Turner et al. 2020, BlockSwap (arXiv:1906.04113); summed "
        "as by Abdelfattah et al. 2021"
    )

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        modules = dict(network.named_modules())
        points = [path for path, module in modules.items() if isinstance(module, nn.Conv2d | nn.Linear)]
        with effects_of_scaling(modules, points) as effects:
            functional.cross_entropy(network(images), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
        return summed([torch.stack(parts).sum(dim=0).square().sum() for parts in effects.values()]) / (2 * len(images))
