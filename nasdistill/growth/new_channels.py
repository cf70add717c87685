"""How the channels begin that a trained network gains: as copies of its own, or with no effect yet.

Without an effect means with zeros wherever weights read them, so that the network computes what it did, in training as
well; what makes them is drawn, so that the zeros have gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import UserError
from nasdistill.growth.coupling import groups_of
from nasdistill.growth.deepening import deepened_to
from nasdistill.growth.student import LabelledImages, Student
from nasdistill.growth.widening import SYMMETRY, by_dimension, carried, changes_between
from nasdistill.models.base import NetworkSpec
from nasdistill.models.channels import ChannelGroup
from nasdistill.training.engine import Engine
from nasdistill.training.modes import in_evaluation_mode

NewChannels = Literal["copies", "zero", "gradmax"]

ROUNDS = 3
"""Rounds of subspace iteration, after which gradients hardly grow."""
TINY = 1e-6
"""Norm of the weights that read a new channel while gradients are sent through it: too small to change others."""


def widened(student: Student, spec: NetworkSpec, new: NewChannels, generator: torch.Generator) -> nn.Module:
    """The network of `spec`, which is wider than the student and may have more blocks, with the student's weights.

    What is drawn anew is drawn by torch's global generator.

    Args:
        new: `copies` of its channels (Net2Wider, with a little noise), or channels that have no effect yet: `zero`,
            with incoming weights as the model draws them, or `gradmax`, with those for which the weights that read the
            channels have the largest gradients, see `maximise_gradients`.

    Raises:
        UserError: channels cannot be copied, or not be added without effect, or gradients cannot be sent through them.
    """
    deep, network = deepened_to(spec, student.spec, student.network)
    if new == "copies":
        return carried(deep, network, spec, noise=SYMMETRY, generator=generator)
    network, added = with_zeros(deep, network, spec)
    if new == "gradmax" and added:
        maximise_gradients(network, added, student.batches, student.engine)
    return network


@dataclass(frozen=True)
class Added:
    """The new channels of one group.

    Attributes:
        incoming: by the name of a weight that mixes old channels into new ones, its elements by channel, as numbers in
            the flat weight, int64 [channels, n].
        outgoing: the same of weights that read new channels.
    """

    name: str
    incoming: Mapping[str, torch.Tensor]
    outgoing: Mapping[str, torch.Tensor]


def with_zeros(spec: NetworkSpec, network: nn.Module, other: NetworkSpec) -> tuple[nn.Module, list[Added]]:
    """The network of `other` with the weights of `network`; its new channels are drawn, and read with zeros.

    Raises:
        UserError: see `widened`.
    """
    changes = changes_between(spec, other, _appended)
    grown = other.build()
    state, silent = grown.state_dict(), dict[str, torch.Tensor]()
    for name, old in network.state_dict().items():
        drawn = state[name].to(old)
        made, silent[name] = (torch.zeros(drawn.shape, dtype=torch.bool) for _ in range(2))
        for dimension, here, source, _copies in by_dimension(old.shape, drawn.shape, changes.get(name, ())):
            old = old.index_select(dimension, source.to(old.device))
            for before, after, _channels in here:
                mask = silent[name] if before.reads else made
                mask.index_fill_(dimension, after.positions[len(before.positions) :].flatten(), value=True)
        state[name] = torch.where(made.to(old.device), drawn, old).masked_fill(silent[name].to(old.device), 0)
    grown.load_state_dict(state, assign=True)
    return grown.train(network.training), list(_added(spec, other, silent))


def _appended(group: ChannelGroup, width: int) -> torch.Tensor:
    """Old channels first; what new ones are copies of is written over."""
    if group.mixed:
        raise UserError(
            f"new channels of {group.name!r} change the others, as a norm takes them together: they can only be copies"
        )
    return torch.cat([torch.arange(group.width), torch.zeros(width - group.width, dtype=torch.int64)])


def _added(spec: NetworkSpec, other: NetworkSpec, silent: Mapping[str, torch.Tensor]) -> Iterator[Added]:
    """What is new in each group that is wider."""
    groups = groups_of(other)
    mixing = {place.tensor for group in groups for place in group.places if place.reads}
    for before, after in zip(groups_of(spec), groups, strict=True):
        if before.width == after.width:
            continue
        incoming, outgoing = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
        for place in after.places:
            if place.tensor in mixing:
                mask, positions = silent[place.tensor], place.positions[before.width :]
                numbers, unread = (
                    each.index_select(place.dimension, positions.flatten()).movedim(place.dimension, 0)
                    for each in (torch.arange(mask.numel()).reshape(mask.shape), ~mask)
                )
                numbers, unread = (each.reshape(len(positions), -1) for each in (numbers, unread))
                if place.reads:
                    outgoing[place.tensor] = numbers
                else:
                    incoming[place.tensor] = numbers[:, unread[0]]
        yield Added(after.name, incoming, outgoing)


def maximise_gradients(network: nn.Module, added: Sequence[Added], batches: LabelledImages, engine: Engine) -> None:
    """Give new channels, which are read with zeros, the incoming weights that make gradients of these zeros large.

    Were a channel x linear in its incoming weights w, those gradients would be M w, and largest for the right singular
    vectors of M: subspace iteration finds them. M w is the gradient of the outgoing weights, and M' u that of the
    incoming ones when the outgoing are u, so that M is never needed; and what lies between w and x, as a batch norm,
    a ReLU or a depthwise filter (which stays as drawn), takes part as it is. The new channels of a group get orthogonal
    weights of the norm that they have on average; where a curved function stands between, the best of all rounds is
    kept. The network is in evaluation mode meanwhile, and moved to the engine's device.

    Source: Evci et al. 2022, GradMax (arXiv:2201.05125), section 3, which zeroes the other side.

    Raises:
        UserError: new channels are computed from no others by weights, or read by none.
    """
    for each in added:
        if not each.incoming or not each.outgoing:
            raise UserError(f"the channels of {each.name!r} have no weights that mix others, to send gradients through")
    engine.place(network)
    weights = dict(network.named_parameters())
    best = [(-1.0, torch.empty(0))] * len(added)
    with in_evaluation_mode(network):
        for left in reversed(range(ROUNDS + 1)):
            sent = gradients(network, {name for each in added for name in each.outgoing}, batches, engine)
            for number, each in enumerate(added):
                found = _taken(sent, each.outgoing).norm().item(), _taken(weights, each.incoming)
                best[number] = max(best[number], found, key=lambda pair: pair[0])
            if not left:
                break
            for each in added:
                _put(weights, each.outgoing, TINY * functional.normalize(_taken(sent, each.outgoing)))
            received = gradients(network, {name for each in added for name in each.incoming}, batches, engine)
            for each in added:
                norm = _taken(weights, each.incoming).norm(dim=1).mean()
                _put(weights, each.incoming, norm * _orthonormal(_taken(received, each.incoming)))
                _put(weights, each.outgoing, torch.zeros_like(_taken(sent, each.outgoing)))
    for each, (_norm, rows) in zip(added, best, strict=True):
        _put(weights, each.incoming, rows)


def gradients(
    network: nn.Module, names: Iterable[str], batches: LabelledImages, engine: Engine
) -> dict[str, torch.Tensor]:
    """Of the cross-entropy, summed over all images, by the names of parameters."""
    parameters = {name: network.get_parameter(name) for name in sorted(names)}
    totals = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for images, labels in batches:
        with engine.autocast():
            logits = network(images.to(engine.device))
            loss = functional.cross_entropy(logits, labels.to(engine.device), reduction="sum")
        found = torch.autograd.grad(loss, [*parameters.values()], materialize_grads=True)  # an auxiliary head has none
        for total, gradient in zip(totals.values(), found, strict=True):
            total += gradient
    return totals


def _taken(weights: Mapping[str, torch.Tensor], where: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Those elements, [channels, n]."""
    return torch.cat([weights[name].detach().take(at.to(weights[name].device)) for name, at in where.items()], dim=1)


def _put(weights: Mapping[str, torch.Tensor], where: Mapping[str, torch.Tensor], rows: torch.Tensor) -> None:
    """Set those elements, in place."""
    for (name, at), part in zip(
        where.items(), torch.split(rows, [at.shape[1] for at in where.values()], dim=1), strict=True
    ):
        weights[name].detach().put_(at.to(part.device), part)


def _orthonormal(rows: torch.Tensor) -> torch.Tensor:
    """The rows made orthogonal to those before them, of norm 1; in blocks, where there are more rows than columns."""
    parts = []
    for part in torch.split(rows.double().cpu(), rows.shape[1]):
        basis, triangle = torch.linalg.qr(part.T)
        parts.append((basis * torch.where(triangle.diagonal() < 0, -1, 1)).T)  # a ReLU tells w from -w
    return torch.cat(parts).to(rows)
