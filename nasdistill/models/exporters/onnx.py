"""Export to ONNX, which most programs that run networks read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Normalisation
from nasdistill.errors import UserError
from nasdistill.models.base import NetworkSpec
from nasdistill.models.exporters import EXPORTERS, Exporter
from nasdistill.models.onnx_files import FILE, IMAGES, LOGITS, PREPROCESSING, PROBABILITIES, open_session
from nasdistill.models.pixels import OfPixels, by_pixels, pixels_of
from nasdistill.models.portable import alone, check, metadata
from nasdistill.storage import write_bytes

if TYPE_CHECKING:
    from onnx import ModelProto

    from nasdistill.models.exporters import Runtime


class OnnxFormat(Exporter):
    """What ONNX files have in common: how the network is written, and onnxruntime."""

    opset: int = Field(
        21,
        ge=18,
        le=26,
        description="version of the operators, which decides who can read the file: 21 is the newest that onnxruntime "
        "1.18 (May 2024) to 1.20 (November 2024) read",
    )
    preprocessing: bool = Field(
        False,
        description="normalise within the file, which then reads pixels, uint8 [N, H, W, C], and tells probabilities",
    )

    def load(self, path: Path, threads: int = 0) -> Runtime:
        """The network in a file as onnxruntime computes it.

        Raises:
            UserError: onnxruntime does not read the file.
        """
        session = open_session(path, threads)
        told = session.get_modelmeta().custom_metadata_map

        def run(images: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run(None, {IMAGES: images.numpy()})[0])

        if PREPROCESSING not in told:
            return run
        return by_pixels(run, Normalisation(**json.loads(told["normalisation"])))

    def as_read(self, images: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
        """What the file reads of normalised images [N, C, H, W]."""
        return pixels_of(images, spec.normalisation) if self.preprocessing else images

    def reference(self, spec: NetworkSpec, network: nn.Module) -> Runtime:
        """What `load` should compute."""
        return by_pixels(OfPixels(network, spec), spec.normalisation) if self.preprocessing else network

    def model(self, spec: NetworkSpec, network: nn.Module) -> ModelProto:
        """What is written of a network that is `alone`.

        Raises:
            UserError: torch cannot write this opset; or `preprocessing` is for images whose normalisation is known.
        """
        import onnx

        example = torch.zeros(2, *spec.shape)
        values = "pixels in [0, 1] normalised as the metadata say" if spec.vocabulary is None else "numbers of tokens"
        reads = f"{IMAGES}: float, [N, C, H, W], {values}"
        if self.preprocessing:
            network, example = (
                OfPixels(network, spec),
                torch.zeros(2, *spec.shape[1:], spec.shape[0], dtype=torch.uint8),
            )
            reads = f"{IMAGES}: uint8, [N, H, W, C], pixels"
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[IMAGES],
            output_names=[PROBABILITIES if self.preprocessing else LOGITS],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
            opset_version=self.opset,
        )
        assert program is not None
        model: ModelProto = program.model_proto
        written = next(each.version for each in model.opset_import if each.domain == "")
        if written != self.opset:  # torch keeps its own where it cannot convert
            raise UserError(f"torch {torch.__version__} writes this network in opset {written}, not {self.opset}")
        _without_origins(model)
        model.doc_string = reads
        more = {PREPROCESSING: json.dumps(True)} if self.preprocessing else {}
        onnx.helper.set_model_props(model, {**metadata(spec), **more})
        onnx.checker.check_model(model)
        return model


def _without_origins(model: ModelProto) -> None:
    """Take out which line of which file each operator comes from: half of a small file, and paths of this machine."""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@EXPORTERS.register("onnx")
class Onnx(OnnxFormat):
    """`network.onnx`, from `images` (float, normalised, any batch) to `logits`, with labels and normalisation.

    They are JSON texts in the model's `metadata_props`: `labels`, `normalisation`, `input_shape`, `classes`, `spec`.
    With `preprocessing` it leads from `images` (uint8, [N, H, W, C], in RGB, as Pillow gives them) to `probabilities`,
    and the metadata have `preprocessing: true`. Images have the height and width that `input_shape` says.
    """

    source: ClassVar[str] = "the ONNX specification, https://onnx.ai"

    tolerance: float = Field(
        1e-4, gt=0, description="how far logits of onnxruntime may lie from torch's, as a fraction of the largest"
    )

    def export(self, spec: NetworkSpec, network: nn.Module, folder: Path) -> dict[str, Any]:
        network, path = alone(network), folder / FILE
        write_bytes(path, self.model(spec, network).SerializeToString())
        difference = check(self.load(path), self.reference(spec, network), spec.shape, self.tolerance, spec.tokens)
        return {
            "file": FILE,
            "bytes": path.stat().st_size,
            "difference": difference,
            "preprocessing": self.preprocessing,
        }
