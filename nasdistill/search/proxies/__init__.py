"""Proxies: what a network promises before it is trained, from one batch of images."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

from pydantic import Field

from nasdistill.errors import UserError
from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn


class Proxy(Component):
    """Base of all proxies."""

    less_is_better: bool = Field(
        False,
        description="turn the order round: e.g. among networks of one size those with small gradients learn better",
    )

    def measure(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        """The score of a network that nobody needs afterwards: in training mode, nothing in place, no gradients yet.

        Raises:
            UserError: the network has nothing that this proxy measures.
        """
        raise NotImplementedError(type(self).__name__)

    def score(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float | None:
        """What a network promises: the higher, the better. Scores of different proxies, or batches, do not compare.

        A copy is measured, so that weights, gradients, modes and the random state stay as they were.

        Args:
            network: maps images to logits [N, classes]; with the weights that it would be trained from.
            images: [N, C, H, W], normalised, on the network's device and in its precision.
            labels: int64, [N].

        Returns:
            None where it is not finite, as of networks whose logits do not depend on the image.

        Raises:
            UserError: the network is binary, or has nothing that this proxy measures.
        """
        import torch

        from nasdistill.data.seeds import seeded

        refuse_binary(network)
        measured = copy.deepcopy(network).train().requires_grad_()
        for module in measured.modules():
            if "inplace" in vars(module):
                vars(module)["inplace"] = False  # what a hook has seen must stay
        with seeded(0, images.device), torch.enable_grad():
            found = self.measure(measured, images, labels)
        if not math.isfinite(found):
            return None
        return -found if self.less_is_better else found


def refuse_binary(network: nn.Module) -> None:
    """Nothing for a network of real weights.

    Raises:
        UserError: a layer is binary.
    """
    from nasdistill.models.binary import BinaryLayer

    for path, module in network.named_modules():
        if isinstance(module, BinaryLayer):
            raise UserError(
                f"its layer {path!r} is binary, and proxies are defined for real weights: gradients only pass through "
                "signs by convention; score the model without `binary`"
            )


PROXIES: Registry[Proxy] = Registry("proxies", Proxy, "nasdistill.search.proxies")
