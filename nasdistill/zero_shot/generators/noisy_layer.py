"""The generator of NAYER, which has its noise in a layer in place of latents."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.errors import SpecError, found_at
from nasdistill.words import some
from nasdistill.zero_shot.class_embeddings import FileContent, equal_rows, read_embeddings
from nasdistill.zero_shot.generators import GENERATORS, Generator
from nasdistill.zero_shot.generators.convolutional import ConvolutionalGenerator, growing_sizes
from nasdistill.zero_shot.of_one_batch import NoisyLayers

log = logging.getLogger(__name__)


@GENERATORS.register("noisy-layer")
class NoisyLayer(Generator):
    """From classes to pixels through linear layers that are drawn anew for each pseudo-batch; there are no latents.

    A layer makes one image of each class, so that a pseudo-batch has as many layers as images of a class; all classes
    are equally often in it. What it reads of a class is an embedding of the class's name, which a language model made,
    from a file, or a one-hot row. Behind the layers are those of `convolutional`, which learn on from batch to batch,
    with a sigmoid.
    """

    source = (
        "Tran et al., NAYER: Noisy Layer Data Generation for Efficient and Effective Data-free Knowledge Distillation "
        "(2024), and its released code"
    )
    told_classes: ClassVar[bool] = True
    even_classes: ClassVar[bool] = True

    embeddings: FileContent | None = Field(
        None,
        description="file with a row of numbers for each class, in the order of the classes (.npy, or safetensors with "
        "one tensor), such as a language model makes of their names; in the released code 512 of CLIP. By default "
        "(null) classes are one-hot",
    )
    width: int = Field(1000, gt=0, description="numbers that a noisy layer makes of a class, as in the released code")
    channels: int = Field(128, gt=1, description="of the first two maps; the third has half as many")
    slope: float = Field(0.2, ge=0, description="of leaky ReLU below 0")

    @field_validator("embeddings")
    @classmethod
    def _can_be_read(cls, embeddings: FileContent | None) -> FileContent | None:
        if embeddings is not None:
            with found_at():
                read_embeddings(embeddings)
        return embeddings

    @property
    def makes_pixels(self) -> bool:
        return True

    def caveat(self) -> str | None:
        same = equal_rows(read_embeddings(self.embeddings)) if self.embeddings is not None else []
        rows = some([str(row + 1) for row in same])
        return f"rows {rows} of {self.embeddings} are equal, so that they tell these classes as one" if same else None

    def check_classes(self, classes: int, names: Sequence[str] | None) -> None:
        if self.embeddings is None:
            return
        rows = len(read_embeddings(self.embeddings))
        shown = None if names is None else some([*map(repr, names)])
        if rows != classes:
            order = "in the order of the classes" if shown is None else f"in this order: {shown}"
            problem = f"{self.embeddings} has {rows} rows for {classes} classes; it must have one for each, {order}"
            raise SpecError(problem, ("embeddings",))
        if shown is not None:
            log.info("the rows of %s are taken, in order, for the classes %s", self.embeddings, shown)

    def latent(self, shape: Shape) -> int:
        return 0

    def build(self, shape: Shape, images: int, classes: int) -> nn.Module:
        layers = ConvolutionalGenerator(
            self.width, self.channels, growing_sizes(shape), shape[0], self.slope, kernel=(3, 3), sigmoid=True
        )
        table = torch.eye(classes) if self.embeddings is None else read_embeddings(self.embeddings)
        noisy = NoisyLayers(-(-images // classes), classes, table.shape[1], self.width)
        return NoisyGenerator(table, noisy, layers)


class NoisyGenerator(nn.Module):
    """From classes, int64, [N], each of which comes once in every round of all, to images; latents are not read.

    Args:
        table: what is read of each class, [classes, numbers]; it does not learn.
    """

    table: torch.Tensor

    def __init__(self, table: torch.Tensor, noisy: NoisyLayers, layers: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(table.shape[1])
        self.noisy = noisy
        self.layers = layers
        self.register_buffer("table", table, persistent=False)

    def forward(self, latents: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.layers(self.noisy(self.norm(functional.embedding(targets, self.table))))
        return images
