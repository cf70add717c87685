"""Export to ONNX, which most programs that run networks read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.models.base import NetworkSpec
from nasdistill.models.exporters import EXPORTERS, Exporter
from nasdistill.models.portable import IMAGES, LOGITS, alone, check, metadata
from nasdistill.storage import write_bytes

FILE = "network.onnx"


@EXPORTERS.register("onnx")
class Onnx(Exporter):
    """`network.onnx`, from `images` (float, normalised, any batch) to `logits`, with labels and normalisation.

    They are JSON texts in the model's `metadata_props`: `labels`, `normalisation`, `input_shape`, `classes`, `spec`.
    """

    source: ClassVar[str] = "the ONNX specification, https://onnx.ai"

    tolerance: float = Field(
        1e-4, gt=0, description="how far logits of onnxruntime may lie from torch's, as a fraction of the largest"
    )

    def export(self, spec: NetworkSpec, network: nn.Module, folder: Path) -> dict[str, Any]:
        import onnx

        network = alone(network)
        program = torch.onnx.export(
            network,
            (torch.zeros(2, *spec.shape),),
            input_names=[IMAGES],
            output_names=[LOGITS],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
        model.doc_string = f"{IMAGES}: float, [N, C, H, W], pixels in [0, 1] normalised as the metadata say"
        onnx.helper.set_model_props(model, metadata(spec))
        onnx.checker.check_model(model)
        write_bytes(folder / FILE, model.SerializeToString())
        return {
            "file": FILE,
            "bytes": (folder / FILE).stat().st_size,
            "difference": check(_in_onnxruntime(folder / FILE), network, spec.shape, self.tolerance),
        }


def _in_onnxruntime(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network in a file as onnxruntime computes it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([LOGITS], {IMAGES: images.numpy()})[0])
