"""`nasdistill predict`: what a trained network says of pictures."""

from __future__ import annotations

import csv
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasdistill.errors import UserError
from nasdistill.words import some

if TYPE_CHECKING:
    import numpy.typing as npt

    from nasdistill.models.classifier import Classifier

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Pictures that are read before the network is asked."""


@dataclass
class Answer:
    """What is said of a picture.

    Attributes:
        classes: the likeliest, each with its probability.
        broken: why the file cannot be read, if so.
    """

    file: Path
    classes: Sequence[tuple[str, float]] = ()
    broken: str = ""


def predict(
    network: Annotated[
        Path,
        typer.Argument(help="an exported ONNX file, or the folder of an artifact or of a run", metavar="NETWORK"),
    ],
    images: Annotated[list[Path], typer.Argument(help="files, or folders of them at any depth", metavar="IMAGES...")],
    top: Annotated[int, typer.Option(min=1, help="how many classes to tell of each, the likeliest first")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV, a line for each class that is told")] = False,
) -> None:
    """Tell the classes of pictures, each with its probability.

    They are converted and resized as the pictures were that the network was trained on.
    """
    if as_json and as_csv:
        raise UserError("--json and --csv exclude each other")
    files = [file for path in images for file in _images_at(path)]
    classifier = _classifier_at(network)
    start = time.perf_counter()
    answers = [
        answer
        for first in range(0, len(files), AT_ONCE)
        for answer in _answers(classifier, files[first : first + AT_ONCE], top)
    ]
    log.info("%d image(s), %.2f ms each", len(files), 1000 * (time.perf_counter() - start) / len(files))
    show = _show_json if as_json else _show_csv if as_csv else _show_table
    show(answers)
    broken = [f"{answer.file}: {answer.broken}" for answer in answers if answer.broken]
    if broken:
        of_all = f"{len(broken)} of {len(files)} images" if len(files) > 1 else "the image"
        raise UserError(f"{of_all} cannot be read: {some(broken, 3)}")


def _images_at(path: Path) -> Iterator[Path]:
    from nasdistill.data.decoding import is_image
    from nasdistill.data.folders import files_in

    if not path.is_dir():
        if not path.exists():
            raise UserError(f"there is no image or folder {path}")
        yield path
        return
    found = [file for file in files_in(path) if is_image(file)]
    if not found:
        raise UserError(f"{path} holds no images")
    yield from found


def _classifier_at(path: Path) -> Classifier:
    from nasdistill.models import classifier, onnx_files

    if path.is_file():
        return classifier.from_onnx(path)
    if not path.is_dir():
        raise UserError(f"there is no network {path}: it is neither a file nor a folder")
    folder = _network_to_take(path) if (path / "run.json").is_file() else path
    exported = sorted(folder.glob("*.onnx"), key=lambda file: file.name != onnx_files.FILE)
    return classifier.from_onnx(exported[0]) if exported else classifier.from_artifact(folder)


def _network_to_take(run: Path) -> Path:
    """The folder of the network that the run's page says to take, of its first seed: its export if there is one."""
    from nasdistill.models.base import WEIGHTS
    from nasdistill.report.results import load_run
    from nasdistill.report.summaries import by_stage
    from nasdistill.report.sweeps import to_take

    record = load_run(run)
    take = to_take(record)
    rows = [row for row in reversed(record.rows) if row.seed == record.seeds[0]]
    if take is not None:
        rows = [take.to_ask(by_stage(record.rows)), take.rows[0], *rows]
    for row in rows:
        if row.folder and (any(row.folder.glob("*.onnx")) or (row.folder / WEIGHTS).is_file()):
            log.info("the network of the stage %s, seed %d", row.label, row.seed)
            return row.folder
    raise UserError(f"no stage of the run in {run} left a trained network")


def _answers(classifier: Classifier, files: Sequence[Path], top: int) -> list[Answer]:
    import numpy as np

    from nasdistill.data.decoding import Broken

    answers = [Answer(file) for file in files]
    pixels: list[npt.NDArray[np.uint8]] = []
    for answer in answers:
        try:
            pixels.append(classifier.pixels(answer.file))
        except Broken as error:
            answer.broken = str(error)
    read = [answer for answer in answers if not answer.broken]
    for answer, found in zip(read, classifier.probabilities(np.stack(pixels)) if read else (), strict=True):
        likeliest = np.argsort(-found, kind="stable")[:top]
        answer.classes = [(classifier.labels[index], round(float(found[index]), 6)) for index in likeliest]
    return answers


def _show_table(answers: Sequence[Answer]) -> None:
    from nasdistill.cli.tables import show_table

    rows = []
    for answer in answers:
        if answer.classes:
            first, *others = (f"{label} {100 * sure:.1f} %" for label, sure in answer.classes)
            rows.append((str(answer.file), first, ", ".join(others)))
    if rows:
        show_table(("image", "class", "next"), rows, words=3)


def _show_json(answers: Sequence[Answer]) -> None:
    from nasdistill.cli.tables import show

    told = [
        {
            "image": str(answer.file),
            **({"error": answer.broken} if answer.broken else {}),
            "classes": [{"class": label, "probability": sure} for label, sure in answer.classes],
        }
        for answer in answers
    ]
    show(json.dumps(told, indent=2))


def _show_csv(answers: Sequence[Answer]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("image", "rank", "class", "probability"))
    for answer in answers:
        writer.writerows((answer.file, rank, *told) for rank, told in enumerate(answer.classes, 1))
