"""First weights that make a training of few epochs better than drawn ones do."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import UserError

RIDGE = 5e-4
"""What is added to the variance along each direction, so that those that images hardly have are not blown up."""


@torch.no_grad()
def begin_as_identity(network: nn.Module) -> int:
    """Let convolutions pass on what they read, as far as they can: their first filters become unit impulses.

    Those of one group whose kernels are larger than 1x1 and of odd sides; other filters stay as they are drawn.

    Returns:
        how many layers changed.

    Source: Zagoruyko and Komodakis 2017, DiracNets (arXiv:1706.00388), section 3.1, as a first weight alone.
    """
    layers = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and max(layer.kernel_size) > 1
        if all(side % 2 for side in layer.kernel_size)
    ]
    for layer in layers:
        nn.init.dirac_(layer.weight[: layer.in_channels])
    return len(layers)


@torch.no_grad()
def whiten(layer: nn.Conv2d, images: Iterable[torch.Tensor]) -> int:
    """Let a convolution decorrelate the patches that it reads, each direction with the variance 1.

    Its filters are eigenvectors of the patches' second moments over the roots of the eigenvalues, the largest first,
    each followed by its negative, as a ReLU needs both; filters beyond all of them stay as they are drawn.

    Args:
        images: batches [N, C, H, W], as the layer reads them.

    Returns:
        how many directions there are.

    Source: Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU (arXiv:2404.00498), section 3.2.
    """
    moments, seen = torch.zeros(()), 0
    for batch in images:
        patches = functional.unfold(batch.double(), layer.kernel_size).movedim(1, 2).flatten(end_dim=1)
        moments, seen = moments + patches.T @ patches, seen + len(patches)
    values, vectors = torch.linalg.eigh(moments / seen)
    count = min(len(values), layer.out_channels // 2)
    filters = (vectors / (values + RIDGE).sqrt()).T.flip(0)[:count]
    both = torch.stack([filters, -filters], dim=1).flatten(end_dim=1)
    layer.weight[: 2 * count] = both.view(-1, *layer.weight.shape[1:]).to(layer.weight)
    return count


def first_convolution(network: nn.Module, channels: int) -> nn.Conv2d:
    """The convolution that reads images of so many channels.

    Raises:
        UserError: there is none, or it reads the channels in groups.
    """
    layer = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    if layer is None or layer.in_channels != channels or layer.groups != 1:
        raise UserError(
            "its first layer is no convolution of all channels of the images, whose filters could whiten them"
        )
    return layer
