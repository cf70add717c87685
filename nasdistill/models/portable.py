"""What every export of a network has in common: the network alone, what must be known to feed it, and the check."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import torch
from torch import nn

import nasdistill
from nasdistill.data.base import Shape
from nasdistill.errors import UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.models.inspection import AUXILIARY

BATCHES = (1, 3)
"""Sizes of the batches that an export is checked on; it must take any."""


def alone(network: nn.Module) -> nn.Module:
    """A copy as it is used: on the CPU, in evaluation mode, without the auxiliary head."""
    copied = copy.deepcopy(network).cpu().eval()
    drop_auxiliary(copied)
    return copied


def drop_auxiliary(network: nn.Module) -> None:
    """Take the auxiliary head off a network, in place, if it has one."""
    if getattr(network, AUXILIARY, None) is not None:
        setattr(network, AUXILIARY, None)


def without_auxiliary(network: nn.Module) -> nn.Module:
    """The network of the same layers and tensors less its auxiliary head, which `network` keeps."""
    lesser = copy.copy(network)
    lesser._modules = dict(network._modules)
    drop_auxiliary(lesser)
    return lesser


def declare_points(outer: nn.Module, network: nn.Module) -> None:
    """Give a module that holds `network` as its part of that name the feature points which this declares, if any."""
    if hasattr(network, "feature_points"):
        points = tuple(f"network.{point}" for point in network.feature_points)  # type: ignore[union-attr]
        outer.feature_points = points  # type: ignore[assignment]  # nn.Module is typed to hold tensors and modules


def metadata(spec: NetworkSpec) -> dict[str, str]:
    """What goes into the file beside the network: each value is JSON.

    `input_shape` is channels, height, width; `normalisation` holds the mean and std per channel that pixels in [0, 1]
    are normalised with before the network reads them; `vocabulary` the tokens of texts, by their numbers, which these
    networks read as floats; `labels` are the classes' names, in the order of the logits; `resize` how a photograph of
    another side ratio comes to the size: `squash`, `crop` or `pad`; `first_size` the height and width that it comes to
    before, where the training images had others than the network reads.
    """
    content = spec.model_dump(mode="json")
    values = {
        **({"vocabulary": content["vocabulary"]} if spec.vocabulary else {}),
        **({"first_size": spec.first_size} if spec.first_size else {}),
        "labels": content["labels"],
        "normalisation": content["normalisation"],
        "input_shape": content["shape"],
        "classes": content["classes"],
        "resize": spec.resize,
        "spec": content,
        "producer": f"nasdistill {nasdistill.__version__}",
    }
    return {name: json.dumps(value) for name, value in values.items()}


def check(
    exported: Callable[[torch.Tensor], torch.Tensor],
    network: Callable[[torch.Tensor], torch.Tensor],
    shape: Shape,
    tolerance: float,
    tokens: int = 0,
) -> float:
    """The largest difference of an exported network's logits from the network's, on random images or texts.

    Args:
        exported: from images [N, C, H, W] to logits [N, classes].
        tolerance: of the difference, as a fraction of the largest logit or of 1.
        tokens: of texts, how many there are.

    Raises:
        UserError: they differ by more.
    """
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch in BATCHES:
        images = torch.randn(batch, *shape, generator=generator)
        if tokens:
            images = torch.randint(tokens, images.shape, generator=generator).float()
        with torch.no_grad():
            expected, found = network(images), exported(images)
        if found.shape != expected.shape:
            raise UserError(
                f"the exported network gives {tuple(found.shape)} for {batch} images, not {tuple(expected.shape)}"
            )
        difference = float((found - expected).abs().max())
        allowed = tolerance * max(1.0, float(expected.abs().max()))
        if not difference <= allowed:
            raise UserError(
                f"the exported network's logits are off by {difference:.2g} on random images, more than {allowed:.2g}"
            )
        largest = max(largest, difference)
    return largest
