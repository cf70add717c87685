"""What a network that was found takes over from what was trained to find it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from nasdistill.data.loaders import ImageBatches
    from nasdistill.models.genotypes import Cell
    from nasdistill.search.cell_supernet import CellSupernet
    from nasdistill.training.engine import Engine


@torch.no_grad()
def inherit(
    supernet: CellSupernet, cells: Mapping[str, Cell], batches: ImageBatches, engine: Engine, network: nn.Module
) -> None:
    """Give a network the weights of its edges in a supernet of its size, and statistics of the batches.

    Batch norms, of which the supernet keeps no statistics, get the means over one epoch.
    """
    supernet.hand_over(cells, network)
    engine.place(network.train())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # which torch takes for the mean over all batches
    for batch in batches.epoch(0):
        with engine.autocast():  # not around the batches, which are augmented in full precision
            network(batch.images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
