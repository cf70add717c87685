"""A Fisher pass: the scores of every channel of a network's cells, ours beside plain torch, in one run.

    python -m benchmarks.fisher

The plain way is the one of released code: hooks that keep activations, a full backward pass with the gradients of all
weights, fp32, contiguous. Both read the output of every cell and get their batches for nothing. The second table is of
the same rates, beside a pass of training in our form: forward in training mode, and backward to all weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from benchmarks.common import Turn, arguments, by_torch, compare, offer_processor_time, show, timed
from benchmarks.images import CLASSES, SHAPE
from nasdistill.growth.importance import unit_importance
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.training.engine import Engine, EngineSettings

BATCH = 128
BASELINE = "plain torch (fp32, contiguous)"
Clock = Callable[[], float]


def network(model: str) -> tuple[NetworkSpec, nn.Module]:
    torch.manual_seed(0)
    spec = NetworkSpec(model=MODELS.parse(model), shape=SHAPE, classes=CLASSES)
    return spec, spec.build()


def batch(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(BATCH, *SHAPE, device=device), torch.randint(0, CLASSES, (BATCH,), device=device)


def plain(model: str, device: torch.device, clock: Clock) -> Turn:
    """Activations are kept by forward hooks, their gradients by `retain_grad`."""
    spec, scored = network(model)
    scored.to(device).eval()
    images, labels = batch(device)
    points = [unit.name for unit in spec.model.units()]
    activations: dict[str, torch.Tensor] = {}

    def keep(point: str, activation: torch.Tensor) -> None:
        activation.retain_grad()
        activations[point] = activation

    for point in points:
        scored.get_submodule(point).register_forward_hook(lambda _m, _i, output, point=point: keep(point, output))
    totals = {point: torch.zeros(()) for point in points}

    def step() -> None:
        scored.zero_grad()
        functional.cross_entropy(scored(images), labels, reduction="sum").backward()
        for point, activation in activations.items():
            assert activation.grad is not None
            effect = (activation.detach() * activation.grad).sum(dim=(2, 3))
            totals[point] = totals[point] + effect.square().sum(dim=0)

    return by_torch(timed(step, clock))


def ours(model: str, engine: Engine, clock: Clock) -> Turn:
    """`unit_importance` as growth calls it, with our defaults."""
    spec, scored = network(model)
    images, labels = batch(engine.device)
    images = images.to(memory_format=engine.memory_format)
    return timed(lambda: unit_importance(spec, scored, "output", [(images, labels)], engine), clock)


def training(model: str, engine: Engine, clock: Clock) -> Turn:
    """Forward and backward as in our training, without an update."""
    _, trained = network(model)
    engine.place(trained).train()
    images, labels = batch(engine.device)
    images = images.to(memory_format=engine.memory_format)

    def step() -> None:
        trained.zero_grad()
        with engine.autocast():
            loss = functional.cross_entropy(trained(images), labels)
        loss.backward()

    return timed(step, clock)


def main() -> None:
    parser = arguments("a Fisher pass beside plain torch")
    parser.add_argument("--model", default="darts-v2-16-10", help="what is scored (default darts-v2-16-10)")
    offer_processor_time(parser)
    options = parser.parse_args()
    engine = Engine(EngineSettings())
    precision = "bf16" if engine.precision == "bf16" else "fp32"
    memory = "channels_last" if engine.memory_format == torch.channels_last else "contiguous"
    trained = f"a pass of training ({precision}, {memory})"
    rivals = {
        BASELINE: plain(options.model, engine.device, options.clock),
        f"nasdistill ({precision}, {memory}), depthwise by torch": by_torch(ours(options.model, engine, options.clock)),
        f"nasdistill ({precision}, {memory})": ours(options.model, engine, options.clock),
        trained: training(options.model, engine, options.clock),
    }
    title = f"Fisher pass of {options.model}, batch {BATCH}"
    found = compare(title, rivals, work=BATCH, baseline=BASELINE, options=options)
    show([found, replace(found, baseline=trained)], options.json)


if __name__ == "__main__":
    main()
