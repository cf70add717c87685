"""Growth while training: a network is widened between epochs, and all that its training remembers grows along."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from nasdistill.data.seeds import derived_seed, generator_for
from nasdistill.growth.plan import Target, record, size, widths_of, with_units
from nasdistill.growth.student import LabelledImages, Student
from nasdistill.growth.widening import (
    SYMMETRY,
    Change,
    Sources,
    by_dimension,
    carried,
    changes_between,
    is_read,
    random_sources,
)
from nasdistill.models.base import NetworkSpec
from nasdistill.models.channels import ChannelGroup
from nasdistill.training.checkpoints import load_optimizer, random_state, set_random_state
from nasdistill.training.engine import Engine
from nasdistill.training.tasks import Task

log = logging.getLogger(__name__)


class GrowthWhileTraining:
    """Widens the network of a training after some of its epochs, as a part of the loop's state.

    After the i-th of n times the network is ratio^(i/n) times as large as it was at first. It computes what it did, but
    for the noise that tells copies apart; so does the average of its weights, without any noise.

    Args:
        grow: makes a student so many times as large.
        target: the size in the end.
        after: numbers of epochs, ascending.
        images: normalised, with labels, for methods that measure; can be iterated repeatedly.

    Attributes:
        spec: of the network as it is.
        steps: what there is to tell of each growth, as in `nasdistill.growth.methods.Grown`.
    """

    def __init__(
        self,
        grow: Callable[[Student, float], NetworkSpec],
        target: Target,
        after: Sequence[int],
        spec: NetworkSpec,
        images: LabelledImages,
        seed: int,
    ) -> None:
        self.spec, self.steps = with_units(spec), list[dict[str, Any]]()
        self._grow, self._target, self._after = grow, target, tuple(after)
        self._first, self._images, self._seed = widths_of(self.spec), images, seed

    @property
    def last(self) -> int:
        """The number of epochs after which the network has its full size."""
        return self._after[-1]

    def begin(
        self,
        task: Task,
        optimizer: torch.optim.Optimizer,
        average: AveragedModel | None,
        degrees: Mapping[str, int],
        engine: Engine,
    ) -> None:
        """Take charge of what grows, which stay the same objects; called before anything is loaded.

        Args:
            degrees: of what the optimiser remembers, see `Optimizer.state_degrees`.
        """
        self._task, self._optimizer, self._average, self._degrees = task, optimizer, average, degrees
        self._engine = engine

    def grow(self, epoch: int) -> bool:
        """Grow if it is time to, and say whether the network is another one now.

        Args:
            epoch: how many are done.
        """
        if epoch not in self._after:
            return False
        before = random_state()  # what a method draws must not depend on what its caches hold
        number, spec = self._after.index(epoch), self.spec
        ratio = aims(self._target.ratio, len(self._after))[number] / self._target.ratio_of(spec)
        seed = derived_seed(self._seed, "growth", epoch)
        self._carry(self._grow(Student(spec, self._task.network, self._images, self._engine, seed), ratio), epoch)
        self.steps.append({"epoch": epoch, **record(self.spec, self._target)})
        log.info("after epoch %d the network has %.3f times its first size", epoch, self.steps[-1]["ratio"])
        set_random_state(before)
        return True

    def parameters(self) -> int:
        return size(self.spec, "params")

    def widths(self) -> dict[str, float]:
        """By unit, as loggers name it."""
        return {f"width/{unit}": width for unit, width in widths_of(self.spec).items()}

    def plain(self) -> dict[str, Any]:
        """The content of `growth.json`."""
        widths = {"before": list(self._first.values()), "after": list(widths_of(self.spec).values())}
        return {"steps": self.steps, "importance": {}, "units": list(self._first), "widths": widths}

    def state_dict(self) -> dict[str, Any]:
        return {"spec": self.spec.model_dump_json(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the network as large as it was; what it holds is loaded after this."""
        self.spec, self.steps = NetworkSpec.model_validate_json(state["spec"]), state["steps"]
        self._replace(self.spec.build(), self.spec.build())

    def _carry(self, spec: NetworkSpec, epoch: int) -> None:
        generator = generator_for(self._seed, "widening", epoch)
        sources = kept(random_sources(generator))
        changes = changes_between(self.spec, spec, sources)
        network = carried(self.spec, self._task.network, spec, sources=sources, noise=SYMMETRY, generator=generator)
        average = self._average and carried(self.spec, self._average.module, spec, sources=sources)
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        state = self._optimizer.state_dict()
        for number, name in enumerate(self._names()):
            remembered = state["state"].get(number, {})
            for key in self._degrees.keys() & remembered.keys():
                remembered[key] = resized_memory(
                    remembered[key], shapes[name], changes.get(name, ()), self._degrees[key]
                )
        self._replace(network, average)
        load_optimizer(self._optimizer, state)
        self.spec = spec

    def _names(self) -> list[str]:
        """Those of the optimiser's parameters in the network, in the optimiser's order."""
        names = {parameter: name for name, parameter in self._task.network.named_parameters()}
        return [names[parameter] for group in self._optimizer.param_groups for parameter in group["params"]]

    def _replace(self, network: nn.Module, average: nn.Module | None) -> None:
        """Train another network in place of the present one, which the optimiser remembers nothing of."""
        names = iter(self._names())
        parameters = dict(self._engine.place(network).named_parameters())
        for group in self._optimizer.param_groups:
            group["params"] = [parameters[next(names)] for _ in group["params"]]
        self._optimizer.state.clear()
        self._task.network = network
        if self._average is not None and average is not None:
            self._average.module = self._engine.place(average)


def aims(ratio: float, times: int) -> list[float]:
    """Sizes over the first one: those of equal steps to `ratio`."""
    return [ratio ** ((number + 1) / times) for number in range(times)]


def kept(sources: Sources) -> Sources:
    """The same channels of a group each time."""
    chosen: dict[str, torch.Tensor] = {}

    def again(group: ChannelGroup, width: int) -> torch.Tensor:
        if group.name not in chosen:
            chosen[group.name] = sources(group, width)
        return chosen[group.name]

    return again


def resized_memory(tensor: torch.Tensor, shape: torch.Size, changes: Iterable[Change], degree: int) -> torch.Tensor:
    """What an optimiser has gathered of a parameter's gradients, as if the network had been so wide all along.

    The weights that read c copies of a channel are W / c. All copies are alike, so each of these weights has the
    gradient of W: it is not divided. What comes back to each copy is divided by c, and so are the gradients of all that
    makes a copy: its filter, bias and batch norm. What is of degree d in the gradient, as Adam's second moment is of
    degree 2, is divided by c^d. Weight decay inside of the gradient is no gradient of the function and scales
    otherwise, which is left out here.
    """
    grown = tensor
    for dimension, here, source, copies in by_dimension(tensor.shape, shape, changes):
        grown = grown.index_select(dimension, source.to(grown.device))
        if not is_read(here):
            grown = grown / copies.to(grown) ** degree
    return grown
