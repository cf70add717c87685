"""Export to OpenVINO, Intel's runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import nn

from nasdistill.extras import require_extra
from nasdistill.models.base import NetworkSpec
from nasdistill.models.exporters import EXPORTERS, Exporter
from nasdistill.models.exporters.onnx import Onnx
from nasdistill.models.onnx_files import IMAGES, LOGITS
from nasdistill.models.portable import alone, check, metadata
from nasdistill.storage import write_bytes

if TYPE_CHECKING:
    from nasdistill.models.exporters import Runtime

FILE, WEIGHTS = "network.xml", "network.bin"


@EXPORTERS.register("openvino")
class OpenVino(Exporter):
    """`network.xml` and `network.bin`, from `images` (float, normalised, any batch) to `logits`.

    Labels and normalisation are JSON texts in the `rt_info` of the model, below `nasdistill`: `labels`,
    `normalisation`, `input_shape`, `classes`, `spec`.
    """

    source: ClassVar[str] = "OpenVINO IR, https://docs.openvino.ai"

    tolerance: float = Field(
        1e-4, gt=0, description="how far logits of OpenVINO may lie from torch's, as a fraction of the largest"
    )

    @model_validator(mode="after")
    def _is_there(self) -> OpenVino:
        require_extra("openvino", "the format 'openvino' needs OpenVINO")
        return self

    def export(self, spec: NetworkSpec, network: nn.Module, folder: Path) -> dict[str, Any]:
        import openvino

        network = alone(network)
        with tempfile.TemporaryDirectory() as scratch:
            onnx, written = Path(scratch, "network.onnx"), Path(scratch, FILE)
            onnx.write_bytes(Onnx().model(spec, network).SerializeToString())
            model = openvino.Core().read_model(onnx)
            for name, value in metadata(spec).items():
                model.set_rt_info(value, ["nasdistill", name])
            openvino.save_model(model, written, compress_to_fp16=False)
            for name in (FILE, WEIGHTS):
                write_bytes(folder / name, Path(scratch, name).read_bytes())
        return {
            "file": FILE,
            "bytes": sum((folder / name).stat().st_size for name in (FILE, WEIGHTS)),
            "difference": check(self.load(folder / FILE), network, spec.shape, self.tolerance, spec.tokens),
        }

    def load(self, path: Path, threads: int = 0) -> Runtime:
        """The network as OpenVINO computes it on the processor, in float32 where the processor would take less."""
        import openvino

        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        return lambda images: torch.from_numpy(compiled({IMAGES: images.numpy()})[LOGITS])
