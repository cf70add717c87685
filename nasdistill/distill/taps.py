"""Feature taps: what the modules inside a network put out or read, by module path, without editing the network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import TracebackType

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from nasdistill.data.base import Shape
from nasdistill.errors import UserError, nearest
from nasdistill.models.inspection import blank_image
from nasdistill.training.modes import in_evaluation_mode

INPUT = ":input"
"""What turns a module's path into the point in front of it."""


class Taps:
    """Collects outputs and inputs of modules inside `network` while its block runs.

    ```python
    taps = Taps(network, ["group1", "classifier:input"])
    with taps as features:
        logits = network(images)
    features["group1"]  # what the module returned, part of the autograd graph
    features["classifier:input"]  # its first positional argument, likewise
    ```
    The hooks are in place inside the block alone, and the tensors belong to whoever took them: nothing is kept on the
    network or here. A block is one forward pass: a module that is called twice in it has no one output and is refused
    (tap what surrounds it), and so is one that was not called. Wrappers of Fabric and of `DistributedDataParallel` are
    seen through, so that paths are those of the plain network.

    Args:
        network: any module; may be called through `network(...)` or any other method.
        points: module paths as `named_modules` spells them, for outputs; with `:input` behind them, for inputs.
        whose: names the network in errors.

    Raises:
        UserError: a path leads nowhere; within the block, what a point should hold is anything but one tensor.
    """

    def __init__(self, network: nn.Module, points: Iterable[str], whose: str = "network") -> None:
        self.whose = whose
        modules = dict(unwrapped(network).named_modules(remove_duplicate=False))
        self._modules: dict[str, nn.Module] = {}
        for point in points:
            path = point.removesuffix(INPUT)
            if not path or path not in modules:
                raise UserError(_no_such_module(path, modules, whose))
            self._modules[point] = modules[path]
        self._handles: list[RemovableHandle] = []
        self._features: dict[str, torch.Tensor] = {}

    def __enter__(self) -> dict[str, torch.Tensor]:
        assert not self._handles, "the block of these taps is open already"
        self._features = {}
        self._handles = [self._hook(point, module, self._features) for point, module in self._modules.items()]
        return self._features

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        missed = [point.removesuffix(INPUT) for point in self._modules if point not in self._features]
        self._handles, self._features = [], {}
        if missed and error is None:
            raise UserError(f"the {self.whose}'s module {missed[0]!r} takes no part in its forward pass")

    def _hook(self, point: str, module: nn.Module, features: dict[str, torch.Tensor]) -> RemovableHandle:
        def before(_module: nn.Module, inputs: tuple[object, ...]) -> None:
            self._collect(point, inputs[0] if inputs else None, features)

        def after(_module: nn.Module, _inputs: tuple[object, ...], output: object) -> None:
            self._collect(point, output, features)

        if point.endswith(INPUT):
            return module.register_forward_pre_hook(before)
        return module.register_forward_hook(after)

    def _collect(self, point: str, value: object, features: dict[str, torch.Tensor]) -> None:
        path = point.removesuffix(INPUT)
        if not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise UserError(
                f"the {self.whose}'s module {path!r} puts out a {kind}, not one tensor; tap a module inside or after it"
                if path == point
                else f"the {self.whose}'s module {path!r} reads a {kind} as its first positional argument, "
                "not one tensor; tap a module inside or before it"
            )
        if point in features:
            raise UserError(
                f"the {self.whose}'s module {path!r} is called more than once in a forward pass, "
                f"so it has no one {'output' if path == point else 'input'}; tap a module around it"
            )
        # A copy, because an in-place operation downstream (`relu_`, `+=`) would change what we hold.
        features[point] = value.clone()


def unwrapped(network: nn.Module) -> nn.Module:
    """The plain network inside the wrappers of Fabric and of data-parallel training."""
    from nasdistill.training.fabric import is_wrapped

    while is_wrapped(network) or isinstance(network, nn.parallel.DistributedDataParallel | nn.DataParallel):
        inner = network.module
        assert isinstance(inner, nn.Module)
        network = inner
    return network


def output_shapes(
    network: nn.Module, points: Iterable[str], shape: Shape, whose: str = "network"
) -> dict[str, tuple[int, ...]]:
    """The shapes at `points` for one image, without the batch dimension, from one pass on zeros.

    The network's mode and buffers are what they were afterwards.

    Raises:
        UserError: as `Taps` does.
    """
    taps = Taps(network, points, whose)
    with in_evaluation_mode(network), torch.no_grad(), taps as features:
        network(blank_image(network, shape))
    return {point: tuple(feature.shape[1:]) for point, feature in features.items()}


def values_at(network: nn.Module, point: str, shape: Shape, whose: str) -> int:
    """How many values of one image a point puts out; see `output_shapes`."""
    return math.prod(output_shapes(network, [point], shape, whose)[point])


def count_classes(network: nn.Module, shape: Shape) -> int:
    """How many logits a network has for an image of this shape."""
    with in_evaluation_mode(network), torch.no_grad():
        return int(network(blank_image(network, shape)).shape[1])


def _no_such_module(path: str, modules: Iterable[str], whose: str) -> str:
    """One sentence with the nearest path and the modules inside the deepest one that `path` does reach."""
    known = [name for name in modules if name]
    guess = nearest(path, [name + INPUT for name in known] if ":" in path else known)
    hint = f"; did you mean {guess!r}?" if guess else ""
    reached = path
    while reached and reached not in known:
        reached = reached.rpartition(".")[0]
    inside = [name for name in known if name.rpartition(".")[0] == reached]
    where = f"inside {reached!r}" if reached else "inside it"
    return f"the {whose} has no module {path!r}{hint} ({where}: {', '.join(inside) or 'no modules'})"
