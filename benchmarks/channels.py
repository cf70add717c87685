"""Groups of channels: how many a network has, how soon they are found, and whether widening by them keeps its function.

    python -m benchmarks.channels

Every group of every network is widened by half, in double precision; growth is uniform, to twice the parameters. A
network is taken for what torch sees of it, so families of this project are grown by groups as well.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.common import arguments, machine
from benchmarks.images import CLASSES, SHAPE
from nasdistill.growth.methods import GROWTH_METHODS
from nasdistill.growth.plan import size, with_model
from nasdistill.growth.student import Student
from nasdistill.growth.widening import carried
from nasdistill.models.base import MODELS, NetworkSpec
from nasdistill.models.channels import channel_groups
from nasdistill.models.with_widths import WithWidths
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.modes import in_evaluation_mode

NETWORKS = (
    "wrn-16-2",
    "resnet-20",
    "densenet-40-12",
    "darts-v2-16-8",
    "torchvision:resnet18",
    "torchvision:mobilenet_v3_small",
    "torchvision:efficientnet_b0",
    "torchvision:vgg11_bn",
    "timm:seresnet18",
)


@dataclass(frozen=True)
class Found:
    """Of one network.

    Attributes:
        groups: whose channels can change in number, and `fixed` ones.
        seconds: to find them, the network there already.
        error: largest difference between the logits of the widened and the old network, over the largest logit.
        ratio: of the parameters, reached for 2.
        multiply_adds: before and after that growth.
    """

    network: str
    groups: int
    fixed: int
    seconds: float
    error: float
    ratio: float
    multiply_adds: tuple[int, int]


def measured(name: str) -> Found:
    """What is to be known of one network."""
    own = MODELS.parse(name)
    spec = NetworkSpec(model=WithWidths.of(own, SHAPE), shape=SHAPE, classes=CLASSES)
    torch.manual_seed(0)
    network = own.build(SHAPE, CLASSES).double()
    with torch.no_grad():
        network(torch.randn(8, *SHAPE, dtype=torch.float64))  # batch norms have statistics of their own
    begun = time.perf_counter()
    groups = channel_groups(network, SHAPE)
    seconds = time.perf_counter() - begun
    wider = {
        unit.name: unit.width + unit.multiple * -(-unit.width // (2 * unit.multiple)) for unit in spec.model.units()
    }
    error = _difference(network, carried(spec, network, with_model(spec, spec.model.with_widths(wider))))
    student = Student(spec, nn.Identity(), (), Engine(EngineSettings()))
    grown = GROWTH_METHODS.parse({"name": "uniform", "ratio": 2.0}).grow(student).spec
    fixed = sum(group.fixed is not None for group in groups)
    counts = size(spec, "flops"), size(grown, "flops")
    return Found(name, len(groups) - fixed, fixed, seconds, error, size(grown, "params") / size(spec, "params"), counts)


@torch.no_grad()
def _difference(network: nn.Module, other: nn.Module) -> float:
    images = torch.randn(4, *SHAPE, dtype=torch.float64)
    with in_evaluation_mode(network), in_evaluation_mode(other):
        logits = network(images)
        return float((other(images) - logits).abs().max() / logits.abs().max())


def main() -> None:
    parser = arguments("groups of channels")
    parser.add_argument("--models", nargs="+", default=NETWORKS, help=f"networks (default {' '.join(NETWORKS)})")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    found = [measured(name) for name in options.models]
    if options.json:
        print(json.dumps({"machine": machine(), "networks": [asdict(each) for each in found]}, indent=2))
        return
    console = Console()
    console.print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    table = Table("network", "groups", "fixed", "found in, s", "largest error", "ratio for 2", "multiply-adds, M")
    for each in found:
        before, after = (count / 1e6 for count in each.multiply_adds)
        counts = f"{before:.1f} to {after:.1f}"
        numbers = str(each.groups), str(each.fixed), f"{each.seconds:.1f}", f"{each.error:.1e}", f"{each.ratio:.3f}"
        table.add_row(each.network, *numbers, counts)
    console.print(table)


if __name__ == "__main__":
    main()
