"""The input of a growth method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nasdistill.models.base import NetworkSpec
from nasdistill.training.checkpoints import Checkpoints
from nasdistill.training.engine import Engine
from nasdistill.training.records import Records

if TYPE_CHECKING:
    import torch
    from torch import nn

LabelledImages = Iterable[tuple["torch.Tensor", "torch.Tensor"]]
"""Batches of images and labels."""


@dataclass(frozen=True)
class Student:
    """A network that is to grow.

    Attributes:
        network: trained or not, built from `spec`; no method changes it.
        batches: normalised images and labels; can be iterated repeatedly, in the same order.
        checkpoints: where a long-running method saves and resumes its steps.
        records: where it logs its scores.
    """

    spec: NetworkSpec
    network: nn.Module
    batches: LabelledImages
    engine: Engine
    seed: int = 0
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    records: Records = field(default_factory=Records)

    def restored(self, spec: NetworkSpec, weights: Mapping[str, torch.Tensor]) -> Student:
        """As it was at a checkpoint, with a network of other widths."""
        from nasdistill.models.foresight import tentatively

        with tentatively():  # not on torch's meta device, where buffers would be that no state holds
            network = spec.build()
        network.load_state_dict(weights, assign=True)
        return replace(self, spec=spec, network=network.train(self.network.training))
