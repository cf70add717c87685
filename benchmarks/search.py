"""First-order search steps on the published supernet: our loop beside plain torch and nni, in one run.

    python -m benchmarks.search

A step is one of the architecture and one of the weights, each on a batch of its own. Ours is all of the strategy
`darts` with our defaults: shuffling, crops and flips, both losses, both optimisers, clipping, bookkeeping. The others
get their batches for nothing. The plain supernet is written edge by edge, as the paper writes it. nni's is its `DARTS`
space as its one-shot strategy mutates it, trained as its Lightning module does; it is left out where nni (x86-64 only)
or the `pytorch_lightning` that it needs is not installed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks.common import Turn, arguments, by_torch, compare, show, timed
from benchmarks.images import CLASSES, SHAPE, random_data
from nasdistill.cli.parameters import parse_value
from nasdistill.search.spaces import SPACES
from nasdistill.search.spaces.darts_cells import DartsSpace
from nasdistill.search.strategies.darts import DartsSearch
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.records import Records
from tests.search.reference import PlainSupernet

BATCH = 64
BASELINE = "plain, fp32, contiguous"


def ours(space: DartsSpace, engine: Engine) -> Turn:
    """One epoch of the strategy, as it measures itself; building the supernet is left out."""

    def turn(steps: int) -> float:
        data = random_data(2 * steps * BATCH)
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder), math.inf)
            records = Records(Path(folder), "benchmark", quiet=True)
            found = DartsSearch(epochs=1, batch_size=BATCH).search(space, data, engine, 0, checkpoints, records)
            records.close()
        return 2 * steps * BATCH / float(found.metrics["samples_per_second"])

    return turn


def theirs(
    supernet: nn.Module, alphas: Sequence[nn.Parameter], device: torch.device, channels_last: bool, bf16: bool
) -> Turn:
    """The step that everybody writes: both backward passes reach all parameters."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    supernet.to(device).to(memory_format=layout).train()
    chosen = {id(alpha) for alpha in alphas}
    weights = [parameter for parameter in supernet.parameters() if id(parameter) not in chosen]
    sgd = torch.optim.SGD(weights, lr=0.025, momentum=0.9, weight_decay=3e-4)
    adam = torch.optim.Adam(alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    images = torch.randn(2, BATCH, *SHAPE, device=device)
    labels = torch.randint(0, CLASSES, (2, BATCH), device=device)

    def backward(half: int) -> None:
        with torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = functional.cross_entropy(supernet(images[half].to(memory_format=layout)), labels[half])
        torch.autograd.backward(loss)

    def step() -> None:
        adam.zero_grad()
        backward(0)
        adam.step()
        sgd.zero_grad()
        backward(1)
        nn.utils.clip_grad_norm_(weights, 5)
        sgd.step()

    return by_torch(timed(step))


def plain(space: DartsSpace, device: torch.device, channels_last: bool, bf16: bool) -> Turn:
    supernet = PlainSupernet(space, SHAPE, CLASSES)
    return theirs(supernet, [supernet.normal, supernet.reduce], device, channels_last, bf16)


def nni(space: DartsSpace, device: torch.device) -> Turn | None:
    """nni's supernet of the same channels and cells, or None where it cannot be imported."""
    warnings.filterwarnings("ignore")  # it warns of every module that came to torch after it
    try:
        from nni.nas.hub.pytorch import DARTS
        from nni.nas.oneshot.pytorch.strategy import DARTS as Strategy
    except ImportError as error:
        print(f"nni is left out: {error}", file=sys.stderr)
        return None
    finally:
        logging.getLogger("nni").setLevel(logging.ERROR)
    supernet = Strategy().mutate_model(
        DARTS(width=space.search_channels, num_cells=space.search_cells, dataset="cifar")
    )
    learned = [module.arch_parameters() for module in supernet.modules() if hasattr(module, "arch_parameters")]
    alphas = list(dict.fromkeys(alpha for several in learned for alpha in several))
    return theirs(supernet, alphas, device, channels_last=False, bf16=False)


def main() -> None:
    parser = arguments("first-order search steps beside plain torch and nni")
    parser.add_argument(
        "--space", default="darts", help="search space of DARTS cells, as a recipe has it (default darts)"
    )
    options = parser.parse_args()
    space = SPACES.parse(parse_value(options.space, "--space"))
    if not isinstance(space, DartsSpace):
        parser.error(f"{options.space} has no cells of DARTS, whose plain supernet stands beside ours")
    engine = Engine(EngineSettings())
    ours_is = f"nasdistill ({'bf16' if engine.precision == 'bf16' else 'fp32'}, channels_last)"
    rivals = {
        BASELINE: plain(space, engine.device, channels_last=False, bf16=False),
        "nni, fp32, contiguous": nni(space, engine.device),
        f"{ours_is}, layers by torch": by_torch(ours(space, engine)),
        ours_is: ours(space, engine),
    }
    if engine.precision == "bf16":
        rivals["plain, bf16, channels_last"] = plain(space, engine.device, channels_last=True, bf16=True)
    present = {name: turn for name, turn in rivals.items() if turn is not None}
    title = f"search step, {options.space}, {space.search_channels} channels, {space.search_cells} cells, batch {BATCH}"
    show([compare(title, present, work=2 * BATCH, baseline=BASELINE, options=options)], options.json)


if __name__ == "__main__":
    main()
