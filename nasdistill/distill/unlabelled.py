"""Images without labels: what a teacher answers stands in for the classes that nobody knows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from nasdistill.data.base import Data, Images
from nasdistill.data.loaders import evaluation_batches

if TYPE_CHECKING:
    from nasdistill.distill.teacher import TeacherEnsemble
    from nasdistill.training.engine import Engine


def with_answers(data: Data, teachers: TeacherEnsemble, engine: Engine) -> Data:
    """The data set whose validation and test images have the likeliest class by the teachers for a label.

    An accuracy on them is how often a network answers as its teachers do; the training images stay without labels.
    """

    def answered(part: Images) -> Images:
        batches = evaluation_batches(part, data, engine)
        with torch.inference_mode(), engine.autocast():
            answers = [teachers(batch.images)[0].logits.argmax(1).cpu() for batch in batches.epoch(0)]
        return replace(part, labels=torch.cat(answers).clone())

    return replace(data, validation=answered(data.validation), test=answered(data.test))
