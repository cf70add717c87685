"""How alike the images of a batch are to an untrained network, by its gradients for their pixels."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from nasdistill.search.proxies import PROXIES, Proxy
from nasdistill.search.saliency import gradients

K = 1e-5
"""Added to the eigenvalues, as published."""


@PROXIES.register("jacob-cov")
class JacobCov(Proxy):
    """-sum_i (log(v_i + k) + 1 / (v_i + k)), v the eigenvalues of the images' correlations, k = 1e-5.

    What correlates are the gradients of the summed logits for each image's pixels.
    """

    source: ClassVar[str] = "Mellor et al. 2020, the first version of arXiv:2006.04647; Abdelfattah et al. 2021"

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        pixels = images.detach().clone().requires_grad_()
        (jacobian,) = gradients(network(pixels).sum(), [pixels])
        correlation = torch.corrcoef(jacobian.flatten(1).double())
        if not correlation.isfinite().all():
            return math.nan
        eigenvalues = torch.linalg.eigvalsh(correlation) + K
        return -float((eigenvalues.log() + 1 / eigenvalues).sum())
