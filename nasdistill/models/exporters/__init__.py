"""Exporters: formats in which a trained network leaves nasdistill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from nasdistill.registry import Component, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nasdistill.models.base import NetworkSpec

    Runtime = Callable[[torch.Tensor], torch.Tensor]


class Exporter(Component):
    """Base of all export formats."""

    def export(self, spec: NetworkSpec, network: nn.Module, folder: Path) -> dict[str, Any]:
        """Write the network alone into `folder` and check the file against `network` on random input.

        Returns:
            what was written and how far the outputs lie apart, as plain data: `file`, `bytes`, `difference`.
        """
        raise NotImplementedError(type(self).__name__)

    def load(self, path: Path, threads: int = 0) -> Runtime | None:
        """The written network as the runtime that the format is for computes it, so that it can be scored and timed.

        Args:
            threads: that compute, where the runtime has some of its own; 0 leaves it the choice.

        Returns:
            from images [N, C, H, W], normalised, to logits or logarithms of probabilities [N, classes], both on the
            CPU; None where there is no such runtime.
        """
        return None


class CalibratedExporter(Exporter):
    """Base of formats that round activations, to ranges which training images show."""

    calibration_images: int = Field(
        512, gt=0, description="training images that the ranges of activations are taken from, drawn by the seed"
    )

    def export(
        self, spec: NetworkSpec, network: nn.Module, folder: Path, images: torch.Tensor | None = None
    ) -> dict[str, Any]:
        """As for all formats.

        Args:
            images: those that the ranges are taken from, [N, C, H, W], normalised, on the CPU.
        """
        raise NotImplementedError(type(self).__name__)


EXPORTERS: Registry[Exporter] = Registry("exporters", Exporter, "nasdistill.models.exporters")
