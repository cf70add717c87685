"""What a network costs and where it can be tapped: parameters, multiply-adds, bytes, latency, layers, feature points.

Nothing here changes the network: modes, buffers and the random state are as they were. An auxiliary head (the attribute
`auxiliary`, used while training only) is no part of what a network costs.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.models.binary import BinaryLayer
from nasdistill.models.flop_counter import FlopCounter, counting
from nasdistill.readings import reading

AUXILIARY = "auxiliary"


@dataclass(frozen=True)
class Layer:
    """A module that holds no others, or a binary layer with the batch norm in it.

    Attributes:
        path: as in `named_modules`.
        kind: the name of its class.
        output: shape of its output without the batch, or None where that is no tensor.
        multiply_adds: for one image.
    """

    path: str
    kind: str
    output: tuple[int, ...] | None
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found; `layers` are in the order in which they run.

    A binary layer's multiply-adds count as those of a real one.
    """

    parameters: int
    multiply_adds: int
    bytes: int
    input: Shape
    classes: int
    feature_points: tuple[str, ...]
    layers: tuple[Layer, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data: everything but the layers."""
        plain = {**vars(self), "input": list(self.input), "feature_points": list(self.feature_points)}
        del plain["layers"]
        return plain


def inspect(module: nn.Module, shape: Shape, classes: int) -> Inspection:
    """Everything about a network that does not depend on the machine."""
    return Inspection(
        **described(module, shape),
        input=shape,
        classes=classes,
        feature_points=feature_points(module, shape),
        layers=layers(module, shape),
    )


def described(module: nn.Module, shape: Shape, timed: bool = False) -> dict[str, Any]:
    """What results tell of a network: `parameters`, `multiply_adds`, `bytes`, `latency_ms` if timed and known."""
    sizes = {
        "parameters": count_parameters(module),
        "multiply_adds": multiply_adds(module, shape),
        "bytes": size_bytes(module),
    }
    return {**sizes, "latency_ms": reading("latency", lambda: latency_ms(module, shape))} if timed else sizes


def count_parameters(module: nn.Module) -> int:
    """Number of learned values; a tensor that is used twice counts once."""
    return sum(parameter.numel() for name, parameter in module.named_parameters() if not is_auxiliary(name))


def size_bytes(module: nn.Module) -> int:
    """Bytes of the weights as they are used: parameters and buffers such as BN's statistics.

    A binary layer's weights count as they are exported: one bit each, and a float per filter. What several layers
    share counts once.
    """
    packed = {f"{path}.weight": part for path, part in module.named_modules() if isinstance(part, BinaryLayer)}
    state = module.state_dict(keep_vars=True)
    once = {id(value): (name, value) for name, value in state.items() if not is_auxiliary(name)}
    return sum(packed[name].packed_bytes() if name in packed else value.nbytes for name, value in once.values())


def multiply_adds(module: nn.Module, shape: Shape) -> int:
    """Multiply-adds of convolutions and matrix products for one image; norms, activations and pools are free."""
    with _as_found(module), counting() as counter:
        module(blank_image(module, shape))
    return counter.multiply_adds


def multiply_adds_by_weight(module: nn.Module, shape: Shape) -> dict[str, int]:
    """The same by the names of the weights that take part; under "" those of activations alone, as in attention."""
    with _as_found(module), counting({parameter: name for name, parameter in module.named_parameters()}) as counter:
        module(blank_image(module, shape))
    return {name: flops // 2 for name, flops in counter.by_weight.items()}


def layers(module: nn.Module, shape: Shape) -> tuple[Layer, ...]:
    """The layers that run for an image, in the order in which they first run."""
    leaves = dict(_leaves(module))
    shapes: dict[str, tuple[int, ...] | None] = {}
    by_path: Counter[str] = Counter()
    with counting() as counter:
        calls = _trace(module, shape, counter)
    for call in _flat(calls):
        if call.path in leaves:
            shapes.setdefault(call.path, call.output)
            by_path[call.path] += call.multiply_adds
    return tuple(
        Layer(
            path=path,
            kind=type(leaves[path]).__name__,
            output=output,
            parameters=sum(parameter.numel() for parameter in leaves[path].parameters()),
            multiply_adds=by_path[path],
        )
        for path, output in shapes.items()
    )


def run_order(module: nn.Module, shape: Shape) -> tuple[str, ...]:
    """The paths of the modules that an image runs through in evaluation mode, one for each call, as they begin."""
    return tuple(call.path for call in _flat(_trace(module, shape)))


def feature_points(module: nn.Module, shape: Shape) -> tuple[str, ...]:
    """The paths of the modules whose outputs methods read by default.

    A network of ours declares them as `feature_points`. For any other they are the last modules before each loss of
    resolution, the outermost where one contains another; single pixels are left out.
    """
    declared = getattr(module, "feature_points", None)
    if declared is not None:
        return tuple(declared)
    last: dict[int, str] = {}
    pixels = shape[1] * shape[2]
    for path, now in _trunk(_trace(module, shape), shape, pixels):
        if 1 < now <= pixels:
            pixels = now
            last[pixels] = path
    return tuple(last.values())


def maps_among(paths: Sequence[str], module: nn.Module, shape: Shape) -> tuple[str, ...]:
    """Of some modules those whose outputs are maps of the image, the last one of each resolution; no single pixels."""
    last: dict[int, str] = {}
    for call in _flat(_trace(module, shape)):
        if call.path in paths and _pixels(call, shape) > 1:
            last[_pixels(call, shape)] = call.path
    return tuple(last.values())


def latency_ms(module: nn.Module, shape: Shape, seconds: float = 0.25) -> float:
    """Median time of one image through the network, in milliseconds, on its device, with one thread of torch: several
    wait for each other at each layer, on a busy machine a hundred times as long as they compute.

    Args:
        seconds: how long to measure.
    """
    with _as_found(module), _one_thread():
        image = blank_image(module, shape)

        def answer() -> None:
            module(image)
            _wait_for(image.device)

        return median_ms(answer, seconds)


def runtime_latency_ms(runtime: Callable[[torch.Tensor], object], shape: Shape, seconds: float = 0.25) -> float:
    """Median time of one image through an exported network, in milliseconds, with one thread of torch.

    Args:
        seconds: how long to measure.
    """
    image = torch.zeros(1, *shape)
    with torch.no_grad(), _one_thread():
        return median_ms(lambda: runtime(image), seconds)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def median_ms(answer: Callable[[], object], seconds: float) -> float:
    """Median time of one call of several that take so many seconds together, in milliseconds."""
    answer()  # the first one chooses kernels and takes memory
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        answer()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def _wait_for(device: torch.device) -> None:
    """Until it has computed all that it was asked for."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def blank_image(module: nn.Module, shape: Shape) -> torch.Tensor:
    """A batch of one image of zeros, [1, C, H, W], on the module's device and in its precision."""
    like = next((parameter for parameter in module.parameters() if parameter.is_floating_point()), torch.empty(0))
    return torch.zeros(1, *shape, device=like.device, dtype=like.dtype)


def _leaves(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, BinaryLayer) or not any(module.children()):
        yield path, module
        return
    for name, child in module.named_children():
        yield from _leaves(child, f"{path}.{name}" if path else name)


def is_auxiliary(name: str) -> bool:
    """Whether a tensor of a network's state is one of its auxiliary head."""
    return name.split(".")[0] == AUXILIARY


@contextmanager
def _as_found(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards modes, buffers and the random state are what they were."""
    modes = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for part, mode in modes:
            part.training = mode
        with torch.no_grad():
            for part, name, buffer, before in buffers:
                buffer.copy_(before)
                setattr(part, name, buffer)  # some forward passes put another tensor in its place


@dataclass
class _Call:
    """One call of a module during a forward pass: the shape of its output, and the calls that it made.

    Attributes:
        multiply_adds: its own and those of the calls that it made, if they were counted.
    """

    path: str
    output: tuple[int, ...] | None = None
    multiply_adds: int = 0
    inner: list[_Call] = field(default_factory=list)


def _trace(module: nn.Module, shape: Shape, counter: FlopCounter | None = None) -> _Call:
    """The calls that one image causes."""

    def counted() -> int:
        return counter.multiply_adds if counter else 0

    open_calls = [_Call("")]

    def begin(path: str) -> None:
        open_calls.append(_Call(path, multiply_adds=-counted()))

    def end(output: object) -> None:
        call = open_calls.pop()
        call.multiply_adds += counted()
        call.output = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else None
        open_calls[-1].inner.append(call)

    handles = []
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(lambda _part, _inputs, path=path: begin(path)))
        handles.append(part.register_forward_hook(lambda _part, _inputs, output: end(output)))
    try:
        with _as_found(module):
            module(blank_image(module, shape))
    finally:
        for handle in handles:
            handle.remove()
    return open_calls[0].inner[0]


def _flat(call: _Call) -> Iterator[_Call]:
    yield call
    for inner in call.inner:
        yield from _flat(inner)


def _pixels(call: _Call, shape: Shape) -> int:
    """Height times width of a call's output, or 0 where it is no map of the image."""
    if call.output is None or len(call.output) != 3:
        return 0
    _channels, height, width = call.output
    # Some networks hand maps around with the channels last; read as [C, H, W] they are distorted images.
    undistorted = abs(shape[1] / height - shape[2] / width) < 1
    return height * width if undistorted or height * width == 1 else 0


def _trunk(call: _Call, shape: Shape, before: int) -> list[tuple[str, int]]:
    """The path and the pixels of each output on the way from image to logits.

    A module that loses resolution at most once stands for all that it contains.

    Args:
        before: pixels of the map that the call reads.
    """
    steps: list[tuple[str, int]] = []
    for inner in call.inner:
        after = _pixels(inner, shape)
        passes_between = any(after < _pixels(part, shape) < before for part in _flat(inner))
        steps += _trunk(inner, shape, before) if passes_between else [(inner.path, after)]
        before = after or before
    return steps
