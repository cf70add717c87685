"""What a network scores on test images and where it is wrong, written for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nasdistill.storage import write_json

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from nasdistill.data.base import Data, Images
    from nasdistill.training.engine import Engine
    from nasdistill.training.metrics import Metrics

CONFUSION = "confusion.json"
MISTAKES = "mistakes.json"
SHOWN = 12
"""Mistakes that are kept with their images."""


def write_confusion(folder: Path, classes: tuple[str, ...], score: Metrics) -> None:
    """Write how often each class is taken for which, and how right the network is by how sure it is."""
    write_json(folder / CONFUSION, {"labels": list(classes), "matrix": score.confusion, "bins": score.bins})


def write_mistakes(folder: Path, part: Images, data: Data, engine: Engine, logits: torch.Tensor) -> None:
    """Write the mistakes that a network is surest of, with their images; nothing of texts, which are no pictures.

    Args:
        part: of the data set that the logits, [N, classes], are of.
    """
    if data.words is None:
        write_json(folder / MISTAKES, worst_mistakes(part, data, engine, logits))


def worst_mistakes(part: Images, data: Data, engine: Engine, logits: torch.Tensor) -> dict[str, Any]:
    """`wrong` of `images`, and the `worst`: each its `index`, `label`, `answer`, `confidence` and `pixels`.

    Confidence is the softmax's; pixels are grids, see `nasdistill.data.grids`.
    """
    from nasdistill.data.grids import pixel_grids
    from nasdistill.data.loaders import evaluation_batches

    sure, answers = logits.softmax(1).max(1)
    wrong = (answers != part.labels).nonzero().flatten()
    worst = wrong[sure[wrong].argsort(descending=True, stable=True)[:SHOWN]]
    batches = evaluation_batches(part.subset(worst), data, engine).epoch(0) if len(worst) else ()
    images = [image for batch in batches for image in batch.images]
    return {
        "images": len(part.labels),
        "wrong": len(wrong),
        "worst": [
            {
                "index": index,
                "label": data.classes[int(part.labels[index])],
                "answer": data.classes[int(answers[index])],
                "confidence": float(sure[index]),
                "pixels": pixel_grids(image.float().cpu(), data.normalisation),
            }
            for index, image in zip(worst.tolist(), images, strict=True)
        ],
    }
