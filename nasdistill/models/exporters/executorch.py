"""Export to ExecuTorch, torch's runtime for phones and boards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import nn

from nasdistill.extras import require_extra
from nasdistill.models.base import NetworkSpec
from nasdistill.models.exporters import EXPORTERS, Exporter
from nasdistill.models.portable import alone, check, metadata
from nasdistill.storage import write_bytes

if TYPE_CHECKING:
    from nasdistill.models.exporters import Runtime

FILE = "network.pte"


@EXPORTERS.register("executorch")
class ExecuTorch(Exporter):
    """`network.pte`, whose method `forward` leads from one image (float, normalised) to logits, by XNNPACK's kernels.

    Methods without inputs return JSON texts: `labels`, `normalisation`, `input_shape`, `classes`, `spec`.
    """

    source: ClassVar[str] = "ExecuTorch, https://docs.pytorch.org/executorch"

    tolerance: float = Field(
        1e-4, gt=0, description="how far logits of ExecuTorch may lie from torch's, as a fraction of the largest"
    )

    @model_validator(mode="after")
    def _is_there(self) -> ExecuTorch:
        require_extra("executorch", "the format 'executorch' needs ExecuTorch")
        return self

    def export(self, spec: NetworkSpec, network: nn.Module, folder: Path) -> dict[str, Any]:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        network, path = alone(network), folder / FILE
        program = torch.export.export(network, (torch.zeros(1, *spec.shape),))
        lowered = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], constant_methods=metadata(spec)
        )
        write_bytes(path, lowered.to_executorch().buffer)
        difference = check(self.load(path), network, spec.shape, self.tolerance, spec.tokens)
        return {"file": FILE, "bytes": path.stat().st_size, "difference": difference}

    def load(self, path: Path, threads: int = 0) -> Runtime:
        """The network as ExecuTorch computes it, image by image."""
        from executorch.runtime import Runtime as Interpreter

        program = Interpreter.get().load_program(path)
        forward = program.load_method("forward")
        return lambda images: torch.cat([forward.execute([image])[0].clone() for image in torch.split(images, 1)])
