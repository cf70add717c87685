"""Feature taps: what the modules inside a network put out, by module path, without editing the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from nasdistill.data.base import Shape
from nasdistill.errors import UserError, nearest
from nasdistill.training.metrics import in_evaluation_mode


class Taps:
    """Collects outputs of modules inside `network` while its block runs.

    ```python
    taps = Taps(network, ["group1", "group2.0"])
    with taps as features:
        logits = network(images)
    features["group1"]  # what the module returned, part of the autograd graph
    ```
    The hooks are in place inside the block alone, and the outputs belong to whoever took them: nothing is kept on the
    network or here. A block is one forward pass: a module that is called twice in it has no one output and is refused
    (tap what surrounds it), and so is one that was not called. Wrappers of Fabric and of `DistributedDataParallel` are
    seen through, so that paths are those of the plain network.

    Args:
        network: any module; may be called through `network(...)` or any other method.
        paths: as `named_modules` spells them.
        whose: names the network in errors.

    Raises:
        UserError: a path leads nowhere; within the block, a module puts out anything but one tensor.
    """

    def __init__(self, network: nn.Module, paths: Iterable[str], whose: str = "network") -> None:
        self.whose = whose
        modules = dict(unwrapped(network).named_modules(remove_duplicate=False))
        self._modules: dict[str, nn.Module] = {}
        for path in paths:
            if not path or path not in modules:
                raise UserError(_no_such_module(path, modules, whose))
            self._modules[path] = modules[path]
        self._handles: list[RemovableHandle] = []
        self._outputs: dict[str, torch.Tensor] = {}

    def __enter__(self) -> dict[str, torch.Tensor]:
        assert not self._handles, "the block of these taps is open already"
        self._outputs = {}
        self._handles = [
            module.register_forward_hook(self._collector(path, self._outputs)) for path, module in self._modules.items()
        ]
        return self._outputs

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        missed = [path for path in self._modules if path not in self._outputs]
        self._handles, self._outputs = [], {}
        if missed and error is None:
            raise UserError(f"the {self.whose}'s module {missed[0]!r} takes no part in its forward pass")

    def _collector(
        self, path: str, outputs: dict[str, torch.Tensor]
    ) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def collect(_module: nn.Module, _inputs: tuple[object, ...], output: object) -> None:
            if not isinstance(output, torch.Tensor):
                raise UserError(
                    f"the {self.whose}'s module {path!r} puts out a {type(output).__name__}, not one tensor; "
                    "tap a module inside or after it"
                )
            if path in outputs:
                raise UserError(
                    f"the {self.whose}'s module {path!r} is called more than once in a forward pass, "
                    "so it has no one output; tap a module around it"
                )
            # A copy, because an in-place operation downstream (`relu_`, `+=`) would change what we hold.
            outputs[path] = output.clone()

        return collect


def unwrapped(network: nn.Module) -> nn.Module:
    """The plain network inside the wrappers of Fabric and of data-parallel training."""
    from lightning.fabric import is_wrapped

    while is_wrapped(network) or isinstance(network, nn.parallel.DistributedDataParallel | nn.DataParallel):
        inner = network.module
        assert isinstance(inner, nn.Module)
        network = inner
    return network


def output_shapes(
    network: nn.Module, paths: Iterable[str], shape: Shape, whose: str = "network"
) -> dict[str, tuple[int, ...]]:
    """What the modules at `paths` put out for one image, without the batch dimension, from one pass on zeros.

    The network's mode and buffers are what they were afterwards.

    Raises:
        UserError: as `Taps` does.
    """
    taps = Taps(network, paths, whose)
    parameter = next(network.parameters(), torch.empty(0))
    image = torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype)
    with in_evaluation_mode(network), torch.no_grad(), taps as features:
        network(image)
    return {path: tuple(feature.shape[1:]) for path, feature in features.items()}


def _no_such_module(path: str, modules: Iterable[str], whose: str) -> str:
    """One sentence with the nearest path and the modules inside the deepest one that `path` does reach."""
    known = [name for name in modules if name]
    guess = nearest(path, known)
    hint = f"; did you mean {guess!r}?" if guess else ""
    reached = path
    while reached and reached not in known:
        reached = reached.rpartition(".")[0]
    inside = [name for name in known if name.rpartition(".")[0] == reached]
    where = f"inside {reached!r}" if reached else "inside it"
    return f"the {whose} has no module {path!r}{hint} ({where}: {', '.join(inside) or 'no modules'})"
