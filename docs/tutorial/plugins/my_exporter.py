"""An export format: the weights in half precision, for whoever builds the network elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import load_file, save
from torch import nn

from nasdistill.models.base import NetworkSpec
from nasdistill.models.exporters import EXPORTERS, Exporter
from nasdistill.models.portable import alone, check, metadata
from nasdistill.storage import write_bytes


@EXPORTERS.register("half")
class Half(Exporter):
    """`half.safetensors`: float16 weights by name; labels, normalisation and spec stand in its metadata."""

    tolerance: float = Field(1e-2, gt=0, description="how far logits may move, as a fraction of the largest")

    def export(self, spec: NetworkSpec, network: nn.Module, folder: Path) -> dict[str, Any]:
        network, path = alone(network), folder / "half.safetensors"
        halves = {
            name: (value.half() if value.is_floating_point() else value).contiguous()
            for name, value in network.state_dict().items()
        }
        write_bytes(path, save(halves, metadata(spec)))
        read = alone(network)
        read.load_state_dict(load_file(path))  # copied into float32
        with torch.no_grad():
            difference = check(read, network, spec.shape, self.tolerance)
        return {"file": path.name, "bytes": path.stat().st_size, "difference": difference}
