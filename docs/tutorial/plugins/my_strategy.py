"""A search without training: of some architectures the one whose untrained network tells images apart best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.loaders import evaluation_batches
from nasdistill.data.seeds import generator_for
from nasdistill.models.base import MODELS
from nasdistill.search.given import Given
from nasdistill.search.strategies import STRATEGIES, SearchResult, Strategy
from nasdistill.search.strategies.random import sample


def log_determinant(codes: torch.Tensor) -> float:
    """log |det K|, where K_ij is how many of R ReLUs are alike, on or off, for images i and j; codes 0 or 1, [N, R]."""
    alike = codes @ codes.T + (1 - codes) @ (1 - codes).T
    return float(torch.linalg.slogdet(alike).logabsdet)


@torch.no_grad()
def relu_codes(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """By image which ReLUs are on, float64 of 0 and 1, [N, R]."""
    codes: list[torch.Tensor] = []
    for module in network.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.register_forward_hook(lambda _module, _inputs, output: codes.append(output.flatten(1) > 0))
    network(images)
    return torch.cat(codes, dim=1).double()


@STRATEGIES.register("training-free")
class TrainingFree(Strategy):
    """Samples architectures and keeps the one of the highest score; none is trained."""

    source = "Mellor et al. 2021, Neural Architecture Search without Training (arXiv:2006.04647)"

    samples: int = Field(100, gt=0, description="architectures to score")
    images: int = Field(64, gt=1, description="training images that they are scored on")

    def find(self, given: Given) -> SearchResult:
        space, data, engine = given.space, given.data, given.engine
        generator = generator_for(given.seed, "training-free")
        few = data.train.subset(torch.randperm(len(data.train), generator=generator)[: self.images])
        (batch,) = evaluation_batches(few, data, engine, self.images).epoch(0)

        def score(chosen: Mapping[str, Any]) -> float:
            torch.manual_seed(given.seed)
            network = MODELS.parse(space.proxy(chosen)).build(data.shape, len(data.classes))
            return log_determinant(relu_codes(engine.place(network), batch.images))

        samples = [sample(given.choices, generator) for _ in range(self.samples)]
        scores = [score(chosen) for chosen in samples]
        return SearchResult(space.model(samples[scores.index(max(scores))]), metrics={"score": max(scores)})
