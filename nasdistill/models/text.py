"""Networks that read texts: an embedding of tokens, then convolutions along the text."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from nasdistill.data.base import Shape
from nasdistill.data.words import PADDING, UNKNOWN
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import MODELS, Model


class TextModel(Model):
    """Base of models of texts."""

    reads_texts: ClassVar[bool] = True

    vocabulary: int | None = Field(
        None, gt=UNKNOWN, le=10_000_000, description="tokens that have an embedding; by default those of the data set"
    )
    embedding: int = Field(
        100,
        gt=1,
        le=65_536,
        description="numbers of a token's embedding; teacher and student share it to learn without data",
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="probability of dropping a feature before the classifier")

    def for_vocabulary(self, size: int) -> Model:
        if self.vocabulary is not None and self.vocabulary != size:
            problem = f"the data set has a vocabulary of {size} tokens; leave out the model's, or make them equal"
            raise SpecError(problem, ("vocabulary",))
        return self.model_copy(update={"vocabulary": size})

    def embedded(self, shape: Shape) -> Embedding:
        """The first layer.

        Raises:
            UserError: the images are no texts, or nobody says how many tokens there are.
        """
        if shape[:2] != (1, 1):
            raise UserError(f"a text network needs texts of 1x1xLENGTH, got {'x'.join(map(str, shape))}")
        if self.vocabulary is None:
            raise SpecError(
                "how many tokens there are is told by a data set of texts, or by this option", ("vocabulary",)
            )
        return Embedding(self.vocabulary, self.embedding)


class Embedding(nn.Module):
    """From tokens' numbers, float [N, 1, 1, L], to their embeddings [N, E, 1, L]; those of padding are zero.

    A number beyond the vocabulary is that of the unknown token. What has E channels is taken for embeddings already,
    as a generator makes them.
    """

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, width, padding_idx=PADDING)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        if texts.shape[1] == self.table.embedding_dim:
            return texts
        if texts.shape[1] != 1:
            raise ValueError(
                f"embeddings of {texts.shape[1]} numbers for a network whose own have {self.table.embedding_dim}"
            )
        numbers = texts[:, 0, 0].round().long()
        known = (numbers >= 0) & (numbers < self.table.num_embeddings)
        embeddings: torch.Tensor = self.table(torch.where(known, numbers, UNKNOWN))
        return embeddings.transpose(1, 2).unsqueeze(2)


@MODELS.register("text-cnn")
class TextCNN(TextModel):
    """Convolutions of several widths over embeddings, and the largest value of each. Shorthand: `text-cnn-50-32`.

    The numbers are those of an embedding and of the filters of each width. Published: `text-cnn-300-100`.
    """

    source: ClassVar[str] = "Kim 2014, Convolutional Neural Networks for Sentence Classification (arXiv:1408.5882)"
    shorthand: ClassVar[str] = r"text-cnn-(?P<embedding>\d+)-(?P<filters>\d+)"

    filters: int = Field(100, gt=0, le=65_536, description="of each width")
    widths: tuple[Annotated[int, Field(gt=0, le=1024)], ...] = Field(
        (3, 4, 5), min_length=1, description="tokens that the filters of each kind read"
    )
    projection: int | None = Field(
        None,
        gt=0,
        le=65_536,
        description="numbers that an embedding is brought to before the convolutions, so that a small network can read "
        "the embeddings of a large one; by default it stays as it is",
    )

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return TextConvolutions(
            self.embedded(shape), self.embedding, self.projection, self.filters, self.widths, self.dropout, classes
        )


class Features(nn.Module):
    """Convolutions of each width along a text, with ReLU: [N, E, 1, L] to [N, filters * widths, 1, L]."""

    def __init__(self, channels: int, filters: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                nn.ZeroPad2d(((width - 1) // 2, width // 2, 0, 0)), nn.Conv2d(channels, filters, (1, width)), nn.ReLU()
            )
            for width in widths
        )

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return torch.cat([convolution(embeddings) for convolution in self.convolutions], dim=1)


class TextConvolutions(nn.Module):
    """Embedding, features, maximum over the text, dropout, linear; the feature point is a map of height 1."""

    feature_points: tuple[str, ...] = ("features",)

    def __init__(
        self,
        embedding: Embedding,
        width: int,
        projection: int | None,
        filters: int,
        widths: tuple[int, ...],
        dropout: float,
        classes: int,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.projection = nn.Conv2d(width, projection, 1, bias=False) if projection else nn.Identity()
        self.features = Features(projection or width, filters, widths)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(filters * len(widths), classes)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        features = self.features(self.projection(self.embedding(texts)))
        logits: torch.Tensor = self.classifier(self.dropout(features.amax(dim=(2, 3))))
        return logits
