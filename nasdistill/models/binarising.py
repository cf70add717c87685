"""Which layers of a network become binary."""

from __future__ import annotations

from torch import nn

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError
from nasdistill.models.binary import Form, can_be_binary, make_binary
from nasdistill.models.inspection import run_order


def binarise(network: nn.Module, shape: Shape, form: Form) -> None:
    """Make all convolutions and linear layers binary, in place, but the first and the last that an image runs through.

    The first reads the image and the last gives the logits; both stay real, as published, and so does the classifier of
    a distillation token. What runs in training only, such as an auxiliary head, stays real too, and so does a layer of
    a class that computes something of its own.

    Raises:
        SpecError: nothing lies between the first and the last.
    """
    modules = dict(network.named_modules())
    ran = [path for path in run_order(network, shape) if isinstance(modules[path], nn.Conv2d | nn.Linear)]
    ends = {*ran[:1], *ran[-1:], getattr(network, "distillation_point", None)}
    chosen = [path for path in dict.fromkeys(ran) if path not in ends and can_be_binary(modules[path])]
    if not chosen:
        raise SpecError(
            "there is nothing to make binary: the first and the last layer stay real, and between them the network "
            "has no convolution or linear layer that can be"
        )
    for path in chosen:
        make_binary(modules[path], form)
