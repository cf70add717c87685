"""A network ready for pictures: from an exported ONNX file, without torch, or from the folder of its artifact."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasdistill.data.base import Normalisation, Resize, Shape
from nasdistill.data.decoding import read_pixels
from nasdistill.errors import UserError
from nasdistill.models.onnx_files import IMAGES, PREPROCESSING, open_session
from nasdistill.registry import build

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]
TOLD = ("labels", "normalisation", "input_shape", "classes")
"""What a file's metadata must hold."""


@dataclass(frozen=True)
class Classifier:
    """What tells classes from pixels.

    Attributes:
        shape: channels, height and width of the images that it reads.
        labels: names of the classes.
        probabilities: from pixels [N, H, W, C] to [N, classes].
        resize: how photographs of another side ratio come to that height and width.
        first_size: height and width that they come to before, as the training images did.
    """

    shape: Shape
    labels: Sequence[str]
    probabilities: Callable[[Pixels], Floats]
    resize: Resize = "squash"
    first_size: tuple[int, int] | None = None

    def pixels(self, path: Path) -> Pixels:
        """Of a picture in a file as the network reads them, [H, W, C].

        Raises:
            Broken: see `read_pixels`.
        """
        return read_pixels(path, self.shape, self.resize, self.first_size)


def from_onnx(path: Path) -> Classifier:
    """The network in an exported ONNX file, as onnxruntime computes it.

    Raises:
        UserError: onnxruntime does not read the file, or its metadata do not say how to feed it.
    """
    session = open_session(path)
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        told = {
            name: json.loads(metadata[name])
            for name in (*TOLD, "vocabulary", "resize", "first_size")
            if name in metadata
        }
    except ValueError as error:
        raise UserError(f"{path} was not exported by nasdistill: its metadata are no JSON ({error})") from None
    if lacking := [name for name in TOLD if name not in told]:
        raise UserError(f"{path} was not exported by nasdistill: its metadata lack {', '.join(lacking)}")

    def run(images: npt.NDArray[Any]) -> Floats:
        found: Floats = session.run(None, {IMAGES: images})[0]
        return found

    shape, labels = tuple(told["input_shape"]), told["labels"] or range(told["classes"])
    if PREPROCESSING in metadata:
        classifier = Classifier(shape, _names(labels), run)
    else:
        normalisation = told["normalisation"] and build(Normalisation, told["normalisation"])
        classifier = _of_logits(path, shape, labels, normalisation, "vocabulary" in told, run)
    return replace(classifier, resize=told.get("resize", "squash"), first_size=told.get("first_size"))


def from_artifact(folder: Path) -> Classifier:
    """The trained network in an artifact's folder, as torch computes it on the processor.

    Raises:
        UserError: the folder holds no trained network, or none for images.
    """
    import torch

    from nasdistill.models.base import load_network

    spec, network = load_network(folder)

    def logits(images: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = network(torch.from_numpy(images)).numpy()
        return found

    labels = spec.labels or range(spec.classes)
    read = spec.as_read()
    classifier = _of_logits(folder, read.shape, labels, spec.normalisation, spec.tokens > 0, logits)
    return replace(classifier, resize=read.resize, first_size=read.first_size)


def _of_logits(
    path: Path,
    shape: Shape,
    labels: Sequence[Any],
    normalisation: Normalisation | None,
    reads_texts: bool,
    logits: Callable[[Floats], Floats],
) -> Classifier:
    """From a network that reads normalised images [N, C, H, W]."""
    if reads_texts or shape[1] == 1:
        other = "texts" if reads_texts else "waveforms"
        raise UserError(f"predict is for images, and the network in {path} reads {other}")
    if normalisation is None:
        raise UserError(
            f"the network in {path} does not say what pixels are normalised with; import it with --mean and --std"
        )
    mean, std = np.array(normalisation.mean), np.array(normalisation.std)
    scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def probabilities(pixels: Pixels) -> Floats:
        normalised = pixels * scale + shift
        return softmax(logits(np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))))

    return Classifier(shape, _names(labels), probabilities)


def _names(labels: Sequence[Any]) -> list[str]:
    return [str(label) for label in labels]


def softmax(logits: Floats) -> Floats:
    """Of logits [N, classes] along the classes, in double precision."""
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    found: Floats = powers / powers.sum(1, keepdims=True)
    return found
