"""Batch norm folded into the convolution before it: the same function with one pass less over the activations."""

from __future__ import annotations

import copy
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nasdistill.data.base import Shape
from nasdistill.distill.taps import INPUT, Taps

log = logging.getLogger(__name__)

TOLERANCE = 1e-9
"""Of the folded network's outputs in double precision, as a fraction of how far those of two images lie apart."""

ConvNorm = tuple[str, str]
"""Paths of a convolution and of the batch norm that reads what it puts out."""


def folded(network: nn.Module, shape: Shape, keep: Iterable[str] = ()) -> nn.Module:
    """A frozen copy of `network` in evaluation mode, its batch norms folded into the convolutions that feed them.

    With running mean m, variance v, scale g and shift b, w' = w * g / sqrt(v + eps) and
    b' = (b_conv - m) * g / sqrt(v + eps) + b compute both in one. A pair is folded where batch norm reads a
    convolution's output, each of them runs once, and nothing else reads that output. The last is not visible from
    outside, so a folded copy's outputs are compared with the network's in double precision; where they differ, each
    pair is tried alone, and those that change something stay as they are.

    Args:
        network: any module; it is left as it is.
        shape: channels, height and width of the images it reads.
        keep: points that are read, see `Taps`; what is there stays the same.
    """
    points = tuple(dict.fromkeys(keep))
    result = copy.deepcopy(network).eval().requires_grad_(False)
    pairs = [(conv, norm) for conv, norm in _pairs(result, shape) if not {conv, norm + INPUT} & set(points)]
    harmless = _harmless(result, pairs, shape, points)
    _fold(result, harmless)
    log.debug("%d of %d batch norms are folded into the teacher's convolutions", len(harmless), len(pairs))
    return result.eval().requires_grad_(False)


def _pairs(network: nn.Module, shape: Shape) -> list[ConvNorm]:
    """Convolutions and the batch norms that read what they put out, each called once in a pass, by nothing else."""
    made: dict[int, tuple[str, torch.Tensor]] = {}  # by the output's id; while a tensor lives, no other can have it
    calls: Counter[str] = Counter()
    found: list[ConvNorm] = []

    def after(path: str, module: nn.Module, inputs: tuple[object, ...], output: torch.Tensor) -> None:
        calls[path] += 1
        if isinstance(module, nn.Conv2d):
            made[id(output)] = path, output
        elif inputs and id(inputs[0]) in made:
            found.append((made[id(inputs[0])][0], path))

    handles = [
        module.register_forward_hook(lambda module, inputs, output, path=path: after(path, module, inputs, output))
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d) or (isinstance(module, nn.BatchNorm2d) and module.track_running_stats)
    ]
    try:
        _outputs(network, torch.zeros(1, *shape), ())
    finally:
        for handle in handles:
            handle.remove()
    readers = Counter(conv for conv, _ in found)
    return [(conv, norm) for conv, norm in found if calls[conv] == calls[norm] == readers[conv] == 1]


def _harmless(network: nn.Module, pairs: list[ConvNorm], shape: Shape, points: tuple[str, ...]) -> list[ConvNorm]:
    """The pairs that can be folded without a change of the outputs."""
    if not pairs:
        return []
    plain = copy.deepcopy(network).cpu().double()  # some accelerators have no double precision
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))

    def change_nothing(tried: Sequence[ConvNorm]) -> bool:
        other = copy.deepcopy(plain)
        try:
            _fold(other, tried)
            expected, found = (_outputs(each, images, points) for each in (plain, other))
        except (AttributeError, RuntimeError) as error:  # code that reads a batch norm's own attributes, or is float32
            log.debug("folding %s fails: %s", tried, error)
            return False
        return all(
            float((ours - theirs).abs().max()) < TOLERANCE * float((theirs[0] - theirs[1]).abs().max())
            for ours, theirs in zip(found, expected, strict=True)
        )

    return pairs if change_nothing(pairs) else [pair for pair in pairs if change_nothing([pair])]


def _fold(network: nn.Module, pairs: Sequence[ConvNorm]) -> None:
    for conv, norm in pairs:
        convolution, batch_norm = network.get_submodule(conv), network.get_submodule(norm)
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(batch_norm, nn.BatchNorm2d)
        network.set_submodule(conv, fuse_conv_bn_eval(convolution, batch_norm))
        # What a batch norm of another library holds, such as timm's activation, comes after the norm, if anything does.
        network.set_submodule(norm, nn.Sequential(OrderedDict(batch_norm.named_children())))


def _outputs(network: nn.Module, images: torch.Tensor, points: tuple[str, ...]) -> list[torch.Tensor]:
    parameter = next(network.parameters(), images)
    with torch.no_grad(), Taps(network, points, "teacher") as features:
        logits = network(images.to(parameter.device, parameter.dtype))
    return [logits, *features.values()]
