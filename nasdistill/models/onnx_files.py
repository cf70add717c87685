"""Exported ONNX files: what their inputs, outputs and metadata are called, and onnxruntime, which runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nasdistill.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FILE, INT8_FILE = "network.onnx", "network-int8.onnx"
IMAGES = "images"
"""The input."""
LOGITS, PROBABILITIES = "logits", "probabilities"
"""The output, of images that are normalised, or of pixels."""
PREPROCESSING = "preprocessing"
"""In the metadata of files that read pixels, uint8 [N, H, W, C]."""


def open_session(path: Path, threads: int = 0) -> InferenceSession:
    """The network in a file as onnxruntime runs it on the processor.

    Args:
        threads: that compute; 0 takes as many as there are cores.

    Raises:
        UserError: onnxruntime does not read the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns on standard error of what it leaves as it is
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of types that differ between versions
        why = str(error).splitlines()[0][:200]
        raise UserError(f"onnxruntime {onnxruntime.__version__} does not read {path}: {why}") from error
