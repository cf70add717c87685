"""A model card: what a user of exported files should know, in Markdown, beside the files."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdistill.models.base import NetworkSpec
from nasdistill.words import NONE, share_interval, size, whole

CARD = "model-card.md"
MOST_CLASSES = 20
"""Whose confusion matrix one can still read; of more classes the most frequent confusions are told."""
MOST_CONFUSIONS = 20
FILL_IN = "(to be filled in)"
# How the pixels of a photograph become what an ONNX file reads; the rest of the program is the same.
_NORMALISED = "((pixels / 255 - {mean}) / {std}).astype(numpy.float32).transpose(2, 0, 1)[None]"
_RESIZES = {"squash": "PIL.Image.Image.resize", "crop": "PIL.ImageOps.fit", "pad": "PIL.ImageOps.pad"}
_RESIZED = "photo = {resize}(photo, ({width}, {height}), PIL.Image.Resampling.BILINEAR)"
_PROGRAM = """\
import json, numpy, onnxruntime, PIL.Image, PIL.ImageOps
session = onnxruntime.InferenceSession("{file}")
photo = PIL.ImageOps.exif_transpose(PIL.Image.open("photo.jpg"))
if photo.mode.startswith("I"):  # grey of 16 bits, of which the upper 8 are read
    photo = PIL.Image.fromarray((numpy.array(photo) >> 8).astype(numpy.uint8))
photo = photo.convert("{mode}")
{resized}
pixels = numpy.array(photo).reshape({height}, {width}, {channels})
answer = session.run(None, {{"images": {images}}})[0].argmax()
print(json.loads(session.get_modelmeta().custom_metadata_map["labels"])[answer])
"""


@dataclass(frozen=True)
class Facts:
    """What a card tells.

    Attributes:
        spec: of the network as it is exported.
        parameters, multiply_adds: of the network.
        exports: what was written, by format: `file`, `bytes`, and where it was scored `accuracy` and `agreement`.
        latencies: by format, see `nasdistill.models.inspection.runtime_latency_ms`.
        trained_on: the data set, in words.
        confusion: of the network, test images by true class (row) and predicted class (column).
    """

    spec: NetworkSpec
    parameters: int
    multiply_adds: int
    exports: Mapping[str, Mapping[str, Any]]
    latencies: Mapping[str, float | None]
    trained_on: str = ""
    confusion: Sequence[Sequence[int]] | None = None


def model_card(facts: Facts) -> str:
    """The card; what nobody but its user can know is marked with `FILL_IN`.

    Source: Mitchell et al. 2019, Model Cards for Model Reporting (arXiv:1810.03993), section 4.
    """
    spec = facts.spec
    parts = [f"# {spec.model.registered_name}, {spec.classes} classes", _table(("", ""), _about(facts))]
    parts += ["## Files", _table(_FILES, _files(facts)), _ABOUT_FILES]
    if facts.confusion is not None:
        parts += ["## What it gets wrong", *_mistakes(facts.confusion, _labels(spec))]
    parts += ["## How to use it", *_usage(facts)]
    return "\n\n".join(parts) + "\n"


def _labels(spec: NetworkSpec) -> Sequence[str]:
    return spec.labels or [str(number) for number in range(spec.classes)]


def _about(facts: Facts) -> Iterator[tuple[str, str]]:
    spec = facts.spec
    yield "classes", ", ".join(_labels(spec))
    yield "reads", f"{'x'.join(map(str, spec.shape))} (channels, height, width)"
    if spec.normalisation is not None:
        mean, std = (
            ", ".join(f"{value:.4g}" for value in each) for each in (spec.normalisation.mean, spec.normalisation.std)
        )
        yield "normalised with", f"mean {mean}; standard deviation {std}, of pixels in [0, 1]"
    yield "parameters", whole(facts.parameters)
    yield "multiply-adds", whole(facts.multiply_adds)
    if facts.confusion is not None:
        images, right = sum(map(sum, facts.confusion)), sum(row[place] for place, row in enumerate(facts.confusion))
        low, high = (100 * end for end in share_interval(right / images, images))
        yield (
            "test accuracy",
            f"{100 * right / images:.2f} % of {whole(images)} images; 95 % interval {low:.1f} to {high:.1f} %",
        )
    yield "trained on", facts.trained_on or FILL_IN
    for what in ("licence of the weights", "licence of the training images", "meant for", "not meant for", "contact"):
        yield what, FILL_IN


_FILES = ("file", "format", "size", "test accuracy, %", "agreement, %", "latency, ms")
_ABOUT_FILES = (
    "Accuracy and latency are those of the file in its own runtime, latency of one image in one thread on the machine "
    "that wrote this. Agreement is the share of test images that are given the class that the trained network gives."
)


def _files(facts: Facts) -> Iterator[tuple[str, ...]]:
    for name, told in facts.exports.items():
        numbers = told.get("accuracy"), told.get("agreement"), facts.latencies.get(name)
        yield (
            f"`{told['file']}`",
            name,
            size(told["bytes"]),
            *(NONE if each is None else f"{each:.2f}" for each in numbers),
        )


def _mistakes(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> Iterator[str]:
    if len(labels) <= MOST_CLASSES:
        yield "Test images by true class (row) and predicted class (column):"
        yield _table(("", *labels), [(label, *map(str, row)) for label, row in zip(labels, confusion, strict=True)])
        return
    pairs = [
        (count, labels[true], labels[told])
        for true, row in enumerate(confusion)
        for told, count in enumerate(row)
        if count and true != told
    ]
    yield f"The {MOST_CONFUSIONS} most frequent confusions of test images:"
    most = sorted(pairs, key=lambda pair: -pair[0])[:MOST_CONFUSIONS]
    yield _table(("true class", "predicted class", "images"), [(true, told, str(count)) for count, true, told in most])


def _usage(facts: Facts) -> Iterator[str]:
    spec, files = facts.spec, [told["file"] for told in facts.exports.values()]
    readable = [told for told in facts.exports.values() if told["file"].endswith(".onnx")]
    if not readable or spec.normalisation is None or spec.shape[1] == 1:
        yield f"What must be known to feed them stands in the metadata of {', '.join(f'`{file}`' for file in files)}."
        return
    file, (channels, height, width) = readable[0]["file"], spec.shape
    images = "pixels[None]" if readable[0]["preprocessing"] else _NORMALISED.format(**spec.normalisation.model_dump())
    mode = "L" if channels == 1 else "RGB"
    steps = [(_RESIZES[spec.resize], spec.first_size or (height, width))]
    steps += [(_RESIZES["squash"], (height, width))] if spec.first_size else []
    resized = "\n".join(_RESIZED.format(resize=resize, height=high, width=wide) for resize, (high, wide) in steps)
    sizes = {"height": height, "width": width, "channels": channels}
    program = _PROGRAM.format(file=file, mode=mode, resized=resized, images=images, **sizes)
    yield f"With nasdistill: `nasdistill predict {file} photo.jpg`. Without it:"
    yield f"```python\n{program}```"


def _table(header: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text on one line of a table, in which markup is inert."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
