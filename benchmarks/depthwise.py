"""The gradients of single depthwise convolutions: ours beside torch's, in one run, and beside one forward pass.

    python -m benchmarks.depthwise
    python -m benchmarks.depthwise --threads 1 --processor-time

Layers are those of the DARTS supernet of 16 channels (64 images, all edges of a state beside each other), of found
networks, and of torchvision's MobileNets.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from benchmarks.common import arguments, machine, offer_processor_time
from nasdistill.depthwise import compiler
from nasdistill.depthwise.convolution import Geometry, by_torch, gradient_to_inputs, gradient_to_weight
from nasdistill.training.engine import keep_freed_memory

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Layer:
    images: int
    channels: int
    side: int
    kernel: int
    dilation: int = 1
    stride: int = 1

    def __str__(self) -> str:
        dilated = f" dilation {self.dilation}" if self.dilation > 1 else ""
        strided = f" stride {self.stride}" if self.stride > 1 else ""
        return f"{self.images}x{self.channels}x{self.side}x{self.side}, {self.kernel}x{self.kernel}{dilated}{strided}"


LAYERS = (
    Layer(64, 64, 32, 5),
    Layer(64, 64, 32, 5, dilation=2),
    Layer(64, 64, 32, 3),
    Layer(64, 64, 32, 3, dilation=2),
    Layer(64, 256, 8, 5),
    Layer(64, 256, 8, 3),
    Layer(64, 64, 32, 5, stride=2),
    Layer(64, 64, 32, 3, stride=2),
    Layer(128, 16, 32, 3),
    Layer(128, 16, 32, 5),
    Layer(128, 36, 32, 3),
    Layer(16, 16, 112, 3, stride=2),
    Layer(16, 72, 56, 3, stride=2),
    Layer(16, 88, 28, 3),
    Layer(16, 120, 28, 5),
    Layer(16, 240, 14, 5),
    Layer(16, 576, 7, 5),
)


def measured(
    layer: Layer, dtype: torch.dtype, layout: torch.memory_format, rounds: int, clock: Callable[[], float]
) -> list[float]:
    """Milliseconds of a forward pass, torch's two gradients and ours, medians over rounds that take turns."""
    geometry = Geometry(layer.stride, layer.dilation * (layer.kernel - 1) // 2, layer.dilation)
    images = torch.randn(layer.images, layer.channels, layer.side, layer.side, dtype=dtype)
    images = images.contiguous(memory_format=layout)
    weight = torch.randn(layer.channels, 1, layer.kernel, layer.kernel, dtype=dtype)
    outputs = functional.conv2d(images, weight, None, *geometry, layer.channels)
    gradient = torch.randn_like(outputs)

    turns: dict[str, Callable[[], object]] = {
        "forward": lambda: functional.conv2d(images, weight, None, *geometry, layer.channels),
        "inputs, torch": lambda: by_torch(images, gradient, weight, geometry, (True, False)),
        "weights, torch": lambda: by_torch(images, gradient, weight, geometry, (False, True)),
        "inputs": lambda: gradient_to_inputs(images, gradient, weight, geometry),
        "weights": lambda: gradient_to_weight(images, gradient, weight, geometry),
    }
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds + 1):
        for name, turn in turns.items():
            begun = clock()
            turn()
            taken[name].append(1000 * (clock() - begun))
    return [statistics.median(times[1:]) for times in taken.values()]


def main() -> None:
    parser = arguments("gradients of depthwise convolutions beside torch's")
    offer_processor_time(parser)
    parser.add_argument("--types", default="fp32,bf16", help="of fp32 and bf16 (default both)")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    assert compiler.is_compiled(), "there is no C compiler"
    keep_freed_memory()
    table = Table("layer", "", *("forward", "inputs, torch", "weights, torch", "inputs", "weights"), "torch / ours")
    for layer in LAYERS:
        for name, dtype in TYPES.items():
            for order, layout in FORMATS.items():
                if name in options.types.split(","):
                    times = measured(layer, dtype, layout, options.rounds, options.clock)
                    ratio = (times[1] + times[2]) / (times[3] + times[4])
                    cells = (f"{milliseconds:.2f}" for milliseconds in times)
                    table.add_row(str(layer), f"{name}, {order}", *cells, f"{ratio:.2f}")
    console = Console(width=150)
    console.print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    console.print(table)


if __name__ == "__main__":
    main()
