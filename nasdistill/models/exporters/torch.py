"""Export to a program of torch.export, which runs with torch alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.models.base import NetworkSpec
from nasdistill.models.exporters import EXPORTERS, Exporter
from nasdistill.models.portable import alone, check, metadata
from nasdistill.storage import write_bytes

if TYPE_CHECKING:
    from nasdistill.models.exporters import Runtime

FILE = "network.pt2"


@EXPORTERS.register("torch")
class Torch(Exporter):
    """`network.pt2`, read by `torch.export.load` without nasdistill, with labels and normalisation.

    They are JSON texts in the archive's extra files: `labels`, `normalisation`, `input_shape`, `classes`, `spec`.
    """

    source: ClassVar[str] = "torch.export, https://pytorch.org/docs/stable/export.html"

    tolerance: float = Field(
        1e-5, gt=0, description="how far logits of the file may lie from the network's, as a fraction of the largest"
    )

    def export(self, spec: NetworkSpec, network: nn.Module, folder: Path) -> dict[str, Any]:
        network = alone(network)
        program = torch.export.export(
            network, (torch.zeros(2, *spec.shape),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        written = io.BytesIO()
        torch.export.save(program, written, extra_files=metadata(spec))
        write_bytes(folder / FILE, written.getvalue())
        difference = check(self.load(folder / FILE), network, spec.shape, self.tolerance, spec.tokens)
        return {"file": FILE, "bytes": (folder / FILE).stat().st_size, "difference": difference}

    def load(self, path: Path, threads: int = 0) -> Runtime:
        """The program as torch runs it."""
        return torch.export.load(path).module()
