"""Export to ONNX, which most programs that run networks read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.errors import UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.models.exporters import EXPORTERS, Exporter
from nasdistill.models.onnx_files import FILE, IMAGES, LOGITS, open_session
from nasdistill.models.portable import alone, check, metadata
from nasdistill.storage import write_bytes


@EXPORTERS.register("onnx")
class Onnx(Exporter):
    """`network.onnx`, from `images` (float, normalised, any batch) to `logits`, with labels and normalisation.

    They are JSON texts in the model's `metadata_props`: `labels`, `normalisation`, `input_shape`, `classes`, `spec`.
    """

    source: ClassVar[str] = "the ONNX specification, https://onnx.ai"

    opset: int = Field(
        21,
        ge=18,
        le=26,
        description="version of the operators, which decides who can read the file: 21 is the newest that onnxruntime "
        "1.18 (May 2024) to 1.20 (November 2024) read",
    )
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
            opset_version=self.opset,
        )
        assert program is not None
        model = program.model_proto
        written = next(each.version for each in model.opset_import if each.domain == "")
        if written != self.opset:  # torch keeps its own where it cannot convert
            raise UserError(f"torch {torch.__version__} writes this network in opset {written}, not {self.opset}")
        values = "pixels in [0, 1] normalised as the metadata say" if spec.vocabulary is None else "numbers of tokens"
        model.doc_string = f"{IMAGES}: float, [N, C, H, W], {values}"
        onnx.helper.set_model_props(model, metadata(spec))
        onnx.checker.check_model(model)
        write_bytes(folder / FILE, model.SerializeToString())
        session = open_session(folder / FILE)

        def written_network(images: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run(None, {IMAGES: images.numpy()})[0])

        return {
            "file": FILE,
            "bytes": (folder / FILE).stat().st_size,
            "difference": check(written_network, network, spec.shape, self.tolerance, spec.tokens),
        }
