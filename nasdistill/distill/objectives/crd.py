"""Contrastive representation distillation: an image is recognised across the two networks."""

from __future__ import annotations

import logging

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.data.seeds import generator_for
from nasdistill.distill.learned import LearnedLoss, Preview, reinitialise
from nasdistill.distill.matching import embedding_pair, vectors
from nasdistill.distill.memory import MemoryBank, OtherClasses
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.distill.taps import values_at
from nasdistill.errors import UserError
from nasdistill.training.batches import Batch
from nasdistill.training.processes import world_size

log = logging.getLogger(__name__)


@OBJECTIVES.register("crd")
class ContrastiveRepresentationDistillation(Objective):
    """Contrasts the student's embedding of an image with the teacher's embeddings of other classes, and the reverse.

    Linear layers map both networks' embeddings to vectors of length 1; they are learned with the student and are no
    part of what is kept of it. A memory of each network holds such a vector of every training image. A vector of one
    network must identify its own image among `negatives` images of other classes in the memory of the other.

    Negatives are drawn independently, as the paper's loss assumes; the released code draws none of them twice where
    enough images are of other classes. Of the published ways to choose the positive this is `exact`: the image itself.
    Trains in one process alone, because each process would remember other images.
    """

    source = "Tian, Krishnan, Isola, Contrastive Representation Distillation (2020), and its released code"
    needs_training_set = True
    needs_classes = True

    weight: float = Field(0.8, ge=0, description="what this term is multiplied by in the sum; the labels keep theirs")
    dimensions: int = Field(128, gt=0, description="of the vectors that both embeddings are mapped to")
    negatives: int = Field(16384, gt=0, description="images of other classes that each image is contrasted with")
    temperature: float = Field(0.07, gt=0, description="T, which products of vectors are divided by")
    momentum: float = Field(
        0.5, ge=0, lt=1, description="share of a vector in memory that stays when its image is seen again"
    )
    pair: tuple[str, str] | None = Field(
        None, description="points, [student's, teacher's]; by default the input of each network's last linear layer"
    )

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        ours, theirs = embedding_pair(self.pair, student, teacher, shape)
        student_size = values_at(student, ours, shape, "student")
        teacher_size = values_at(teacher, theirs, shape, "teacher")
        return Term(Contrast(self, (ours, theirs), (student_size, teacher_size)), (ours,), (theirs,))


class Contrast(LearnedLoss):
    """Both networks' embeddings and their memories, which `prepare` makes.

    Args:
        sizes: values of an image at the points of `pair`.
    """

    student_memory: MemoryBank
    teacher_memory: MemoryBank
    others: OtherClasses

    def __init__(
        self, settings: ContrastiveRepresentationDistillation, pair: tuple[str, str], sizes: tuple[int, int]
    ) -> None:
        super().__init__()
        self.settings = settings
        self.pair = pair
        self.student_embedding, self.teacher_embedding = (nn.Linear(size, settings.dimensions) for size in sizes)

    def prepare(self, preview: Preview) -> None:
        """Draw the embeddings, and make the memories for the training images, by the seed alone.

        Raises:
            UserError: all images are of one class, or several processes train.
        """
        if (processes := world_size()) > 1:
            raise UserError(
                f"crd remembers an embedding of every training image, which {processes} processes would each do for "
                "other images; train with one: engine.devices=1"
            )
        device = self.student_embedding.weight.device
        self.others = OtherClasses(preview.labels).to(device)
        fewest = len(preview.labels) - int(preview.labels.bincount().max())
        if fewest < self.settings.negatives:
            log.info("crd: there are %d negatives of only %d images of other classes", self.settings.negatives, fewest)
        for embedding, name in (
            (self.student_embedding, "student_memory"),
            (self.teacher_embedding, "teacher_memory"),
        ):
            generator = generator_for(preview.seed, "crd", name)
            reinitialise(embedding, generator)
            setattr(self, name, MemoryBank(len(preview.labels), self.settings.dimensions, generator).to(device))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        ours, theirs = self.pair
        settings = self.settings
        own = batch.indices.to(batch.labels.device, non_blocking=True)
        candidates = torch.cat([own.unsqueeze(1), self.others.sample(batch.labels, settings.negatives)], dim=1)
        # In single precision, which products divided by a small temperature need.
        with torch.autocast(batch.labels.device.type, enabled=False):
            of_student = functional.normalize(self.student_embedding(vectors(student.features[ours])), dim=1)
            of_teacher = functional.normalize(self.teacher_embedding(vectors(teacher.features[theirs])), dim=1)
            loss = self.teacher_memory.contrast(of_student, candidates, settings.temperature)
            loss = loss + self.student_memory.contrast(of_teacher, candidates, settings.temperature)
            self.student_memory.update(own, of_student, settings.momentum)
            self.teacher_memory.update(own, of_teacher, settings.momentum)
        return loss
