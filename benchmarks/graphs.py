"""A training step of plain torch as it is, compiled, and compiled into CUDA graphs, with ours beside it, in one run.

    python -m benchmarks.graphs

All compute in the engine's precision, channels-last. Compiling takes place in the untimed steps. CUDA graphs are left
out where there is no NVIDIA GPU.
"""

from __future__ import annotations

from typing import Any

from benchmarks.common import arguments, compare, show
from benchmarks.images import CLASSES, SHAPE
from benchmarks.training import BATCH, ours, plain
from nasdistill.models.base import MODELS
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.tasks import Supervised

BASELINE = "plain"


def main() -> None:
    parser = arguments("a training step as it is, compiled, and as CUDA graphs")
    parser.add_argument("--models", nargs="+", default=["wrn-16-1", "wrn-16-2"], help="models to train")
    parser.add_argument("--backend", default="inductor", help="of torch.compile (default inductor)")
    options = parser.parse_args()
    engine = Engine(EngineSettings())
    ways: dict[str, dict[str, Any] | None] = {BASELINE: None, "plain, compiled": {"backend": options.backend}}
    if engine.device.type == "cuda":
        ways["plain, compiled, CUDA graphs"] = {"mode": "reduce-overhead"}
    comparisons = []
    for model in options.models:
        rivals = {
            name: plain(model, engine.device, channels_last=True, bf16=engine.precision == "bf16", compiled=way)
            for name, way in ways.items()
        }
        rivals["nasdistill"] = ours(Supervised(MODELS.parse(model).build(SHAPE, CLASSES)), engine)
        title = f"training {model}, batch {BATCH}, {engine.precision}"
        comparisons.append(compare(title, rivals, work=BATCH, baseline=BASELINE, options=options))
    show(comparisons, options.json)


if __name__ == "__main__":
    main()
