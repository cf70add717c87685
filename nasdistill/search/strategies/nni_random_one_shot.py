"""nni's RandomOneShot: a supernet trained on uniformly drawn paths, then drawn ones compared with its weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.seeds import derived_seed, generator_for
from nasdistill.search.one_shot import Choices, NniSupernet, OneShot
from nasdistill.search.strategies import STRATEGIES
from nasdistill.search.strategies.random import sample
from nasdistill.search.weight_sharing import accuracy_of

if TYPE_CHECKING:
    from nasdistill.data.loaders import ImageBatches
    from nasdistill.training.engine import Engine


@STRATEGIES.register("nni:random-one-shot")
class NniRandomOneShot(OneShot):
    """Train one random path a step; then take the best of some random architectures, with the shared weights.

    They are compared on the half of the training images that taught no weights, with the statistics of each batch in
    batch norm, as those of the training are of a mixture of paths.
    """

    source: ClassVar[str] = "Guo et al. 2020, Single Path One-Shot NAS with Uniform Sampling (arXiv:1904.00420)"
    nni_name: ClassVar[str] = "RandomOneShot"

    candidates: int = Field(32, gt=0, description="architectures to draw and compare once the supernet is trained")

    def sample(self, supernet: NniSupernet, choices: Choices, seed: int) -> None:
        supernet.follow(sample(choices, torch.Generator().manual_seed(seed)))

    def choose(
        self, supernet: NniSupernet, choices: Choices, architecture_batches: ImageBatches, engine: Engine, seed: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        generator = generator_for(derived_seed(seed, "candidates"))
        drawn = [sample(choices, generator) for _ in range(self.candidates)]
        scores = [accuracy(supernet, candidate, architecture_batches, self.epochs, engine) for candidate in drawn]
        best = max(range(len(drawn)), key=scores.__getitem__)
        different = len({json.dumps(candidate, sort_keys=True) for candidate in drawn})
        return drawn[best], {"supernet_accuracy": scores[best], "candidates": different}


def accuracy(supernet: NniSupernet, chosen: dict[str, Any], batches: ImageBatches, epoch: int, engine: Engine) -> float:
    """Accuracy in percent of one architecture with the supernet's weights, on one epoch's batches."""
    supernet.follow(chosen)
    supernet.eval()
    for module in supernet.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return accuracy_of(supernet, batches, epoch, engine)
