"""Synaptic flow: a network's weights alone, without data."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasdistill.search.proxies import PROXIES, Proxy
from nasdistill.search.saliency import gradients, summed, weights_of


@PROXIES.register("synflow")
class Synflow(Proxy):
    """Sum over the weights of |w dR/dw|, R the sum of the logits of an image of ones, every parameter taken absolute.

    Batch norms are left out, so that R is the sum over all paths of the product of their weights. Of the batch only the
    shape counts. It is computed in double precision: of deep networks it is beyond what single precision holds.
    """

    source: ClassVar[str] = (
        "Tanaka et al. 2020, SynFlow (arXiv:2006.05467), equation 2; without batch norms as by Abdelfattah et al. 2021"
    )

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        network = network.eval().double()
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.forward = nn.Identity().forward  # type: ignore[method-assign]
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.abs_()
        weights = weights_of(network)
        flow = network(torch.ones_like(images[:1], dtype=torch.float64)).sum()
        return summed([(w * g).abs().sum() for w, g in zip(weights, gradients(flow, weights), strict=True)])
