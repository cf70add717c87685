"""What a rectifier reads: the points in front of it, and connectors from a student's to its teacher's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.data.seeds import generator_for
from nasdistill.distill.learned import LearnedLoss, Preview, reinitialise
from nasdistill.distill.maps import MapPair, map_pairs, pooled_alike
from nasdistill.distill.matching import Pairs
from nasdistill.distill.objectives import Outputs
from nasdistill.models.inspection import blank_image
from nasdistill.training.batches import Batch
from nasdistill.training.modes import in_evaluation_mode

log = logging.getLogger(__name__)


def preactivation_pairs(
    objective: str, pairs: Pairs, student: nn.Module, teacher: nn.Module, shape: Shape
) -> tuple[MapPair, ...]:
    """The pairs that were asked for, or those of the networks' feature points, each in front of its rectifier.

    A feature point gives way to the batch norm that `norms_before_rectifiers` finds, and stays where there is none.

    Raises:
        UserError: see `map_pairs`.
    """
    if not pairs:
        found = map_pairs(objective, (), student, teacher, shape, pooled=False)
        ours = norms_before_rectifiers(student, [pair.ours for pair in found], shape)
        theirs = norms_before_rectifiers(teacher, [pair.theirs for pair in found], shape)
        pairs = tuple((ours.get(pair.ours, pair.ours), theirs.get(pair.theirs, pair.theirs)) for pair in found)
        reads = ", ".join(f"the student's {one} with the teacher's {other}" for one, other in pairs)
        log.info("%s: compares %s", objective, reads)
    return map_pairs(objective, pairs, student, teacher, shape)


def norms_before_rectifiers(network: nn.Module, points: Sequence[str], shape: Shape) -> dict[str, str]:
    """The batch norms whose outputs are rectified at some points, by point, for those points that have one.

    It is the last one that has run when a point's module ends, if its output, rectified, is the module's own; else the
    one that reads what the module puts out (pre-activated networks). A sum of branches that is rectified has none.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    found: dict[str, str] = {}
    open_points: dict[str, torch.Tensor] = {}
    last: dict[str, torch.Tensor] = {}  # a copy, which an in-place rectifier does not change

    def after(path: str, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if path in points:
            rectified = [norm for norm, before in last.items() if _rectified(before, output)]
            if rectified:
                found[path] = rectified[0]
            else:
                open_points[path] = output
        if isinstance(modules[path], nn.BatchNorm2d):
            read = (point for point, put_out in open_points.items() if any(put_out is given for given in inputs))
            found.update({point: path for point in read if point not in found})
            last.clear()
            last[path] = output.clone()

    handles = [
        module.register_forward_hook(lambda _module, inputs, output, path=path: after(path, inputs, output))
        for path, module in modules.items()
        if path in points or isinstance(module, nn.BatchNorm2d)
    ]
    # Not of zeros, which are the same before and behind a rectifier.
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(blank_image(network, shape))
    try:
        with in_evaluation_mode(network), torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _rectified(before: torch.Tensor, behind: torch.Tensor) -> bool:
    return any(torch.equal(rectifier(before), behind) for rectifier in (functional.relu, functional.relu6))


class ConnectedPairs(LearnedLoss):
    """The sum over pairs of a distance of the connected student from its teacher; each counts half of the next one.

    A connector is a 1x1 convolution and a batch norm, from the student's channels to the teacher's.

    Args:
        objective: its name, by which the connectors' weights are drawn.

    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation (2019), section 3, and its released code.
    """

    def __init__(self, objective: str, pairs: Sequence[MapPair]) -> None:
        super().__init__()
        self.objective = objective
        self.pairs = tuple(pairs)
        self.connectors = nn.ModuleList(
            nn.Sequential(nn.Conv2d(pair.student[0], pair.teacher[0], 1, bias=False), nn.BatchNorm2d(pair.teacher[0]))
            for pair in pairs
        )

    def prepare(self, preview: Preview) -> None:
        """Draw the connectors by the seed alone."""
        reinitialise(self.connectors, generator_for(preview.seed, self.objective))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        losses = []
        for number, (pair, connector) in enumerate(zip(self.pairs, self.connectors, strict=True)):
            ours, theirs = pooled_alike(student.features[pair.ours], teacher.features[pair.theirs])
            share = 2.0 ** (number + 1 - len(self.pairs))
            losses.append(share * self.distance(number, connector(ours).to(theirs.dtype), theirs))
        return torch.stack(losses).sum()

    def distance(self, number: int, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Of the maps of a pair, [N, C, H, W], counted from 0: a scalar."""
        raise NotImplementedError(type(self).__name__)
