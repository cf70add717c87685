"""Fisher importance of channels: an estimate of how much the loss changes when a channel is removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from nasdistill.errors import UserError, unknown
from nasdistill.growth.coupling import groups_of_units
from nasdistill.growth.plan import Read, growable
from nasdistill.growth.student import LabelledImages
from nasdistill.models.base import NetworkSpec
from nasdistill.models.channels import ChannelGroup
from nasdistill.models.scalable import Point
from nasdistill.models.with_widths import points_at
from nasdistill.training.engine import Engine
from nasdistill.training.modes import frozen, in_evaluation_mode


def effect_of_scaling(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """g_nc = sum over space of A * G: the derivative of a sample's loss with respect to a factor on channel c.

    Args:
        activation: A, [N, C, ...].
        gradient: G, the gradient of the summed loss at A, of the same shape.

    Returns:
        [N, C], in single precision at least.
    """
    precise = torch.promote_types(activation.dtype, torch.float32)
    product = activation.to(precise) * gradient
    return product.sum(dim=tuple(range(2, product.ndim))) if product.ndim > 2 else product


def channel_importance(
    network: nn.Module, points: Sequence[str], batches: LabelledImages, engine: Engine
) -> dict[str, torch.Tensor]:
    """Fisher scores Delta_c = 1/(2N) sum_n g_nc^2 of each channel of each point, over all images of `batches`.

    The loss is the cross-entropy summed over the batch, not its mean, so that no 1/N of the batch hides in the
    gradients; and the network is in evaluation mode, because the statistics of a batch would mix the gradients of its
    samples. So the scores do not depend on how the images are batched. Where several modules read a channel, its
    gradient is the sum over all of them, and likewise where a module runs several times, before anything is squared. A
    network that puts parts of an image in the place of images, as windows, reads one image at a time: its parts are
    summed as well.

    Only activations get gradients, and the backward pass ends at the first point. The network is moved to the engine's
    device and otherwise unchanged.

    Source: Theis et al. 2018, Faster gaze prediction with dense networks and Fisher pruning, section 2.2.

    Args:
        points: paths of modules whose outputs are [N, C, ...], or [N, ..., C] of linear layers.

    Returns:
        by point, [C].

    Raises:
        UserError: a point is no module of the network, there are no images, or a score is not finite.
    """
    modules = dict(network.named_modules())
    for point in points:
        if point not in modules:
            raise UserError(unknown("module", point, modules))
    found = _halved_mean_squares(network, effects_of_scaling(modules, points), batches, engine)
    return {point: found[point] for point in points}


def group_importance(
    network: nn.Module, groups: Sequence[ChannelGroup], batches: LabelledImages, engine: Engine
) -> dict[str, torch.Tensor]:
    """Fisher scores of each channel of each group, as of `channel_importance`: what the loss changes if all is 0 there.

    The factor stands on what each layer reads of the channel, all of them before anything is squared: a channel is gone
    when no layer reads it. Where one batch norm gives and a ReLU or a pool hands on, the score is that behind the norm.

    Args:
        groups: whose channels are all read by layers, see `read_by_layers`.

    Returns:
        by the name of a group, [width].

    Raises:
        UserError: there are no images, or a score is not finite.
    """
    found = _halved_mean_squares(network, effects_of_removal(network, groups), batches, engine)
    # what only an auxiliary head reads is not met
    return {group.name: found.get(group.name, torch.zeros(group.width)) for group in groups}


def _halved_mean_squares(
    network: nn.Module, tapped: AbstractContextManager[Effects], batches: LabelledImages, engine: Engine
) -> dict[str, torch.Tensor]:
    """1/(2N) sum_n g_nc^2 of what `tapped` gathers, by its names, over all images of `batches`."""
    totals: dict[str, torch.Tensor] = {}
    images_seen = 0
    at_once: int | None = None
    engine.place(network)
    with in_evaluation_mode(network), frozen(network), tapped as effects:

        def backward(images: torch.Tensor, labels: torch.Tensor) -> None:
            effects.clear()
            with engine.autocast():
                logits = network(images.to(engine.device))
                loss = functional.cross_entropy(logits, labels.to(engine.device), reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]

        for images, labels in batches:
            if at_once is None:
                backward(images[:1], labels[:1])
                rows = max((len(part) for parts in effects.values() for part in parts), default=1)
                at_once = len(labels) if rows == 1 else 1
            for some in zip(torch.split(images, at_once), torch.split(labels, at_once), strict=True):
                backward(*some)
                for point, parts in effects.items():
                    of_images = parts if at_once > 1 else [part.sum(dim=0, keepdim=True) for part in parts]
                    squares = torch.stack(of_images).sum(dim=0).square().sum(dim=0)
                    totals[point] = totals[point] + squares if point in totals else squares
            images_seen += len(labels)
    if not images_seen:
        raise UserError("there are no images to measure the importance of channels on")
    for point, total in totals.items():
        if not total.isfinite().all():
            raise UserError(
                f"the importance of the channels of {point!r} is not finite: the network's outputs are not finite"
            )
    return {point: total / (2 * images_seen) for point, total in totals.items()}


Effects = dict[str, list[torch.Tensor]]
"""By name g_nc, [N, C], as summands: one for each time that a channel is read."""


@contextmanager
def effects_of_scaling(modules: dict[str, nn.Module], points: Sequence[str]) -> Iterator[Effects]:
    """In this context each backward pass adds g of each point to the mapping."""
    effects: Effects = {}

    def add_hook(point: str) -> torch.utils.hooks.RemovableHandle:
        def after_forward(module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            if not output.requires_grad:  # the first point: nothing before it needs a gradient
                output = output.detach().requires_grad_()
            # A hook that held its own tensor would be a reference cycle; the detached one only shares memory.
            activation = output.detach()

            def on_gradient(gradient: torch.Tensor) -> None:
                effect = effect_of_scaling(_by_channel(module, activation), _by_channel(module, gradient))
                effects.setdefault(point, []).append(effect)

            output.register_hook(on_gradient)  # type: ignore[no-untyped-call]
            return output.clone()  # which what comes next may write over

        return modules[point].register_forward_hook(after_forward)

    handles = [add_hook(point) for point in points]
    try:
        yield effects
    finally:
        for handle in handles:
            handle.remove()


def _by_channel(module: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """What a module reads or puts out as [N, C, ...]: of a linear layer channels are last."""
    return tensor.movedim(-1, 1) if isinstance(module, nn.Linear) else tensor


Layer = _ConvNd | nn.Linear


def read_by_layers(network: nn.Module, group: ChannelGroup) -> bool:
    """Whether all that reads a group's channels are convolutions and linear layers."""
    readers = [place.tensor.rpartition(".") for place in group.places if place.reads]
    layers = [own == "weight" and isinstance(network.get_submodule(path), Layer) for path, _, own in readers]
    return bool(layers) and all(layers)


@contextmanager
def effects_of_removal(network: nn.Module, groups: Sequence[ChannelGroup]) -> Iterator[Effects]:
    """In this context each backward pass adds g of each channel of each group to the mapping.

    Args:
        groups: read by layers.
    """
    effects: Effects = {}

    def add_hook(path: str, read: Sequence[tuple[str, torch.Tensor]]) -> torch.utils.hooks.RemovableHandle:
        def before_forward(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
            # what this layer reads alone; of the first layer nothing before it needs a gradient
            own = inputs[0].clone() if inputs[0].requires_grad else inputs[0].clone().requires_grad_()
            activation = own.detach()

            def on_gradient(gradient: torch.Tensor) -> None:
                effect = effect_of_scaling(_by_channel(layer, activation), _by_channel(layer, gradient))
                if isinstance(layer, _ConvNd):  # each group of filters numbers what it reads from 0 on
                    effect = effect.reshape(len(effect), layer.groups, -1).sum(dim=1)
                for name, positions in read:
                    effects.setdefault(name, []).append(effect[:, positions.to(effect.device)].sum(dim=2))

            own.register_hook(on_gradient)  # type: ignore[no-untyped-call]
            return own

        return network.get_submodule(path).register_forward_pre_hook(before_forward)

    read: dict[str, list[tuple[str, torch.Tensor]]] = {}
    for group in groups:
        for place in group.places:
            if place.reads:
                read.setdefault(place.tensor.rpartition(".")[0], []).append((group.name, place.positions))
    handles = [add_hook(path, found) for path, found in read.items()]
    try:
        yield effects
    finally:
        for handle in handles:
            handle.remove()


def unit_points(spec: NetworkSpec, network: nn.Module, read: Read) -> dict[str, list[Point]]:
    """Where each unit of a network is read, by the unit's name."""
    model = growable(spec)
    if read == "output":
        return {unit.name: list(model.points(unit)) for unit in model.units()}
    norms = (path for path, module in network.named_modules() if isinstance(module, _BatchNorm))
    means = {f"{path}.running_mean" for path in norms}
    return {
        unit: [
            point for group in groups for place in group.places if place.tensor in means for point in points_at(place)
        ]
        for unit, groups in groups_of_units(spec).items()
    }


def unit_importance(
    spec: NetworkSpec, network: nn.Module, read: Read, batches: LabelledImages, engine: Engine
) -> dict[str, torch.Tensor]:
    """The Fisher scores of all channels of each unit, in one tensor per unit, on the CPU.

    Raises:
        UserError: no point of a unit can be read.
    """
    points = unit_points(spec, network, read)
    for unit, found in points.items():
        if not found:
            raise UserError(f"{unit!r} of the model {spec.model.registered_name!r} has no point to read {read!r}")
    paths = dict.fromkeys(point.path for found in points.values() for point in found)
    scores = channel_importance(network, list(paths), batches, engine)
    return {
        unit: torch.cat([scores[point.path][point.start : point.stop] for point in found]).cpu()
        for unit, found in points.items()
    }


def is_trained(network: nn.Module) -> bool:
    """True if all batch norms of a network have seen data."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    return all(norm.num_batches_tracked is None or norm.num_batches_tracked > 0 for norm in norms)


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: LabelledImages, engine: Engine) -> None:
    """Give every batch norm the mean and variance of its input in a batch, averaged over all images of `batches`.

    An untrained network needs them before it can be scored in evaluation mode: with the mean 0 and variance 1 of
    initialisation, activations fade or explode over the cells, and the scores with them. Only the batch norms are in
    training mode meanwhile, so drop path and dropout do not act. A single image that is left over at the end does not
    count, as it has no variance where maps are single pixels.

    Raises:
        UserError: no batch has more than one image, and there are such maps.
    """
    engine.place(network)
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    seen = largest = 0
    with in_evaluation_mode(network):
        for norm in norms:
            norm.train().reset_running_stats()
        for images, _labels in batches:
            largest = max(largest, len(images))
            if len(images) == 1 < largest:
                continue
            seen += len(images)
            for norm in norms:
                norm.momentum = len(images) / seen  # each image counts alike, as those of a last batch of few
            with engine.autocast():
                try:
                    network(images.to(engine.device))
                except ValueError:
                    if largest > 1:
                        raise
                    raise UserError(
                        "batch norms have no statistics in one image alone: score several at a time"
                    ) from None
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
