"""Export to ONNX in 8 bits."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from nasdistill.errors import UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.models.exporters import EXPORTERS, CalibratedExporter
from nasdistill.models.exporters.onnx import OnnxFormat
from nasdistill.models.onnx_files import IMAGES, INT8_FILE
from nasdistill.models.portable import alone
from nasdistill.storage import write_bytes

AT_ONCE = 32
"""Calibration images of a batch."""


@EXPORTERS.register("onnx-int8")
class OnnxInt8(OnnxFormat, CalibratedExporter):
    """`network-int8.onnx`: as `onnx`, with weights and activations in 8 bits, which training images calibrate.

    Batch norms behind a convolution are folded into it. Weights are signed with a scale for each channel, activations
    unsigned with a scale for each tensor, both as QuantizeLinear and DequantizeLinear around the operators (QDQ). The
    logits stay floats.
    """

    source: ClassVar[str] = "static quantisation of onnxruntime; Jacob et al. 2018 (arXiv:1712.05877), section 2"

    ranges: Literal["minmax", "percentile"] = Field(
        "minmax",
        description="of activations: all that the images show, or without the outermost 0.001 % (takes longer)",
    )
    least_agreement: float = Field(
        80,
        ge=0,
        le=100,
        description="percent of the calibration images that must be given the class that the network gives them; less "
        "is refused",
    )

    def export(
        self, spec: NetworkSpec, network: nn.Module, folder: Path, images: torch.Tensor | None = None
    ) -> dict[str, Any]:
        if images is None:
            raise UserError(
                "the format 'onnx-int8' takes the ranges of activations from training images; name the data set"
            )
        network, path = alone(network), folder / INT8_FILE
        write_bytes(path, self._quantised(spec, network, images))
        with torch.no_grad():
            expected, found = self.reference(spec, network)(images), self.load(path)(images)
        agreement = 100 * float((expected.argmax(1) == found.argmax(1)).double().mean())
        if agreement < self.least_agreement:
            raise UserError(
                f"in 8 bits only {agreement:.1f} % of {len(images)} training images are given the network's class; "
                "try `ranges: percentile`, or lower `least_agreement`"
            )
        difference = float((expected - found).abs().max())
        return {
            "file": INT8_FILE,
            "bytes": path.stat().st_size,
            "difference": difference,
            "preprocessing": self.preprocessing,
        }

    def _quantised(self, spec: NetworkSpec, network: nn.Module, images: torch.Tensor) -> bytes:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        with tempfile.TemporaryDirectory() as scratch, _in_silence():
            real, prepared, written = (Path(scratch, f"{name}.onnx") for name in ("real", "prepared", "written"))
            real.write_bytes(self.model(spec, network).SerializeToString())
            quant_pre_process(real, prepared, skip_symbolic_shape=True)  # folds batch norms
            nodes = onnx.load(prepared).graph.node
            quantize_static(
                prepared,
                written,
                Calibration(self.as_read(images, spec)),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[node.name for node in nodes if node.op_type in ("Softmax", "BatchNormalization")],
                calibrate_method=CalibrationMethod[{"minmax": "MinMax", "percentile": "Percentile"}[self.ranges]],
                extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
            )
            model = onnx.load(written)
        used = {node.domain for node in model.graph.node}
        kept = [each for each in model.opset_import if each.domain in used]
        del model.opset_import[:]  # onnxruntime names all that it knows, which others may not
        model.opset_import.extend(kept)
        content: bytes = model.SerializeToString()
        return content


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    """Without what onnxruntime prints of its steps and what it warns of on the root logger."""
    root, nowhere = logging.getLogger(), logging.NullHandler()
    root.addHandler(nowhere)  # else a warning would give the root logger a handler for good
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeHandler(nowhere)


class Calibration:
    """Images in batches, as onnxruntime's `CalibrationDataReader` hands them out."""

    def __init__(self, images: torch.Tensor) -> None:
        self._batches = iter(torch.split(images, AT_ONCE))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {IMAGES: batch.numpy()}
