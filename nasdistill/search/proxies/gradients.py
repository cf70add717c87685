"""Proxies that are sums over the gradients of the loss for the weights."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.errors import UserError
from nasdistill.search.proxies import PROXIES, Proxy
from nasdistill.search.saliency import gradients, loss_of, summed, weights_of


@PROXIES.register("grad-norm")
class GradNorm(Proxy):
    """Sum over the layers of the Euclidean norm of the loss's gradient g for their weights."""

    source: ClassVar[str] = "Abdelfattah et al. 2021, Zero-Cost Proxies for Lightweight NAS (arXiv:2101.08134)"

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        return summed([g.norm() for g in gradients(loss_of(network, images, labels), weights_of(network))])


@PROXIES.register("snip")
class Snip(Proxy):
    """Sum over the weights of |w g|: how much the loss changes, to first order, as a weight is removed."""

    source: ClassVar[str] = "Lee et al. 2019, SNIP (arXiv:1810.02340), summed as by Abdelfattah et al. 2021"

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        weights = weights_of(network)
        found = gradients(loss_of(network, images, labels), weights)
        return summed([(w * g).abs().sum() for w, g in zip(weights, found, strict=True)])


@PROXIES.register("grasp")
class Grasp(Proxy):
    """Sum over the weights of -w (H g), H the loss's Hessian: how much the gradient's norm owes to them."""

    source: ClassVar[str] = "Wang et al. 2020, GraSP (arXiv:2002.07376), summed as by Abdelfattah et al. 2021"

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        weights = weights_of(network)
        found = gradients(loss_of(network, images, labels), weights, create_graph=True)
        along = torch.stack([(g.detach() * g).sum() for g in found]).sum()
        return -summed([(w * hg).sum() for w, hg in zip(weights, gradients(along, weights), strict=True)])


@PROXIES.register("zico")
class Zico(Proxy):
    """Sum over the layers of the log of their weights' sum of mean |g| / standard deviation of g.

    Mean and deviation are those of the gradients of a few parts of the batch. Weights whose gradient does not vary are
    left out, as in the released code.
    """

    source: ClassVar[str] = "Li et al. 2023, ZiCo (arXiv:2301.11300), as github.com/SLDGroup/ZiCo computes it"

    parts: int = Field(2, gt=1, description="parts of the batch, each with a gradient of its own")

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        if self.parts > len(images):
            raise UserError(f"the proxy 'zico' cannot make {self.parts} parts of {len(images)} images")
        weights = weights_of(network)
        pairs = zip(images.tensor_split(self.parts), labels.tensor_split(self.parts), strict=True)
        found = [gradients(loss_of(network, *pair), weights) for pair in pairs]
        layers = []
        for of_layer in zip(*found, strict=True):
            g = torch.stack(of_layer)
            deviation = g.std(dim=0, correction=0)
            ratios = (g.abs().mean(dim=0) / deviation)[deviation > 0]
            if len(ratios):
                layers.append(ratios.sum().log())
        return summed(layers)
