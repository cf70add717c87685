"""Training: our loop with our defaults beside plain torch, in one run.

    python -m benchmarks.training
    python -m benchmarks.training --models darts-v2-16-10 torchvision:mobilenet_v3_small

Ours is all of `fit`: shuffling, crops and flips, loss, optimiser, schedule, bookkeeping. The plain loops get their
batch for nothing: it lies ready in memory and is the same in every step. Their layers are torch's.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from benchmarks.common import Comparison, Turn, arguments, by_torch, compare, show, timed
from benchmarks.images import CLASSES, SHAPE, random_data
from nasdistill.data.base import Data
from nasdistill.data.loaders import evaluation_batches, training_batches
from nasdistill.models.base import MODELS
from nasdistill.training.batches import Batches
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.fit import Fitted, fit
from nasdistill.training.records import Records
from nasdistill.training.settings import TrainingSettings
from nasdistill.training.tasks import Supervised, Task

BATCH = 128
BASELINE = "plain, fp32, contiguous"


def plain(
    model: str, device: torch.device, channels_last: bool, bf16: bool, compiled: dict[str, Any] | None = None
) -> Turn:
    """The loop that everybody writes; `compiled` are options of `torch.compile`, where it is."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = MODELS.parse(model).build(SHAPE, CLASSES).to(device).to(memory_format=layout)
    if compiled is not None:
        network.compile(**compiled)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    images = torch.randn(BATCH, *SHAPE, device=device).to(memory_format=layout)
    labels = torch.randint(0, CLASSES, (BATCH,), device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = functional.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()

    return by_torch(timed(step))


def ours(task: Task, engine: Engine, batch: int = BATCH) -> Turn:
    """One epoch of `fit` with our defaults; evaluations are left out, as `fit` itself leaves them out of its rate."""

    def turn(steps: int) -> float:
        data = random_data(steps * batch)
        batches = training_batches(data, batch, 0, engine)
        fitted = trained(task, batches, data, TrainingSettings(epochs=1, batch_size=batch), engine)
        return steps * batch / fitted.cost["samples_per_second"]

    return turn


def trained(task: Task, batches: Batches, data: Data, settings: TrainingSettings, engine: Engine) -> Fitted:
    """All of `fit`, nothing of it left behind."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(Records(Path(folder), "benchmark", quiet=True)) as records,
    ):
        return fit(
            task,
            batches,
            evaluation_batches(data.validation, data, engine),
            evaluation_batches(data.test, data, engine),
            settings,
            engine,
            Checkpoints(Path(folder), math.inf),
            records,
        )


def main() -> None:
    parser = arguments("training beside plain torch")
    parser.add_argument("--models", nargs="+", default=["wrn-16-1", "wrn-16-2"], help="models to train")
    options = parser.parse_args()
    engine = Engine(EngineSettings())
    comparisons: list[Comparison] = []
    ours_is = f"nasdistill ({'bf16' if engine.precision == 'bf16' else 'fp32'}, channels_last)"
    for model in options.models:
        task = Supervised(MODELS.parse(model).build(SHAPE, CLASSES))
        rivals = {
            BASELINE: plain(model, engine.device, channels_last=False, bf16=False),
            "plain, fp32, channels_last": plain(model, engine.device, channels_last=True, bf16=False),
            f"{ours_is}, layers by torch": by_torch(ours(task, engine)),
            ours_is: ours(task, engine),
        }
        if engine.precision == "bf16":
            rivals["plain, bf16, channels_last"] = plain(model, engine.device, channels_last=True, bf16=True)
        title = f"training {model}, batch {BATCH}"
        comparisons.append(compare(title, rivals, work=BATCH, baseline=BASELINE, options=options))
    show(comparisons, options.json)


if __name__ == "__main__":
    main()
