"""The network of NAS-Bench-201: stages of cells whose nodes are sums, between blocks that halve the resolution.

Source: Dong and Yang 2020, NAS-Bench-201 (arXiv:2001.00326), section 2.1 and the released code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.models.cell_strings import NONE, Rows
from nasdistill.models.layers import ReLUConv3x3Norm, Stem
from nasdistill.models.operations import OPERATIONS
from nasdistill.models.scalable import Part


class SummedCell(nn.Module):
    """A cell: [N, C, H, W] in and out. A node is the sum of its edges from the input and from the nodes before it; the
    last node is the output.

    Operations that do not lead there run as well, as in the benchmark, which counts them; they have nothing to learn.

    Attributes:
        nodes: per node its operations, by the state that they read.
    """

    def __init__(self, rows: Rows, channels: int) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(
            nn.ModuleDict(
                {
                    str(state): OPERATIONS.get(name)().build(channels, 1, affine=True)
                    for state, name in enumerate(row)
                    if name != NONE
                }
            )
            for row in rows
        )
        for node in set(range(len(rows))) - nodes_before_output(rows):
            self.nodes[node].requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states = [images]
        for node in self.nodes:
            assert isinstance(node, nn.ModuleDict)
            terms = [operation(states[int(state)]) for state, operation in node.items()]
            # A node without edges is zero, and has the zero gradient that keeps processes in step.
            states.append(sum(terms[1:], terms[0]) if terms else 0 * images)
        return states[-1]


def nodes_before_output(rows: Rows) -> set[int]:
    """The nodes from which edges lead to the last one, and that itself."""
    leading = {len(rows) - 1}
    for node in reversed(range(len(rows) - 1)):
        if any(rows[later][node + 1] != NONE for later in leading if later > node):
            leading.add(node)
    return leading


class Reduction(nn.Module):
    """A residual block of stride 2; its shortcut is a 1x1 convolution of the means over 2x2 pixels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ReLUConv3x3Norm(in_channels, out_channels, 2), ReLUConv3x3Norm(out_channels, out_channels, 1)
        )
        # Odd sides, which the benchmark does not have, are rounded up as in the branch.
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(in_channels, out_channels, 1, bias=False)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        summed: torch.Tensor = self.shortcut(images) + self.branch(images)
        return summed


@dataclass(frozen=True)
class NetworkParts:
    """What a network is made of.

    Attributes:
        stages: of each resolution the block that leads to it, but for the first one, and its cells.
    """

    stem: Part
    stages: tuple[tuple[Part, ...], ...]
    norm: Part
    classifier: Part

    def __iter__(self) -> Iterator[Part]:
        return itertools.chain([self.stem], *self.stages, [self.norm, self.classifier])


def network_parts(rows: Rows, widths: Sequence[int], cells: int, shape: Shape, classes: int) -> NetworkParts:
    """The parts of a network.

    Args:
        widths: channels of each stage.
        cells: of each stage.
    """
    stages: list[tuple[Part, ...]] = []
    before = now = (widths[0], *shape[1:])
    for width in widths:
        blocks = []
        if stages:
            now = (width, -(-before[1] // 2), -(-before[2] // 2))
            blocks.append(Part(Reduction, (before[0], width), before))
        stages.append((*blocks, *[Part(SummedCell, (rows, width), now)] * cells))
        before = now
    return NetworkParts(
        Part(Stem, (shape[0], widths[0]), shape),
        tuple(stages),
        Part(nn.BatchNorm2d, (now[0],), now),
        Part(nn.Linear, (now[0], classes), (1, 1, now[0])),
    )


class SummedNetwork(nn.Module):
    """Stem, stages, BN-ReLU, global average, linear; the feature points are the ends of the stages."""

    def __init__(self, parts: NetworkParts) -> None:
        super().__init__()
        self.stem = parts.stem.build()
        self.stages = nn.ModuleList(nn.Sequential(*(part.build() for part in stage)) for stage in parts.stages)
        self.norm = parts.norm.build()
        self.classifier = parts.classifier.build()
        self.feature_points = tuple(f"stages.{stage}" for stage in range(len(parts.stages)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        logits: torch.Tensor = self.classifier(functional.relu(self.norm(features)).mean(dim=(2, 3)))
        return logits
