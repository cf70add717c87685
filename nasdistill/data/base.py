"""What a data set is: uint8 images, labels, class names, and the numbers that normalise them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nasdistill.registry import Component, ComponentOf, Registry

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]
"""Channels, height, width."""


class Normalisation(BaseModel):
    """Per-channel mean and standard deviation of pixels in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, ...] = Field(description="mean per channel, of pixels scaled to [0, 1]")
    std: tuple[float, ...] = Field(description="standard deviation per channel, of pixels scaled to [0, 1]")


@dataclass(frozen=True)
class ImageSet:
    """Images that fit in memory.

    Attributes:
        images: uint8, [N, C, H, W], on the CPU.
        labels: int64, [N].
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


class DataSet(Component):
    """Base of all data sets: where the images come from. Subclasses add their options."""

    root: Path = Field(Path("data"), description="folder that holds the files, as torchvision lays them out")
    download: bool = Field(False, description="fetch the files if they are missing")
    validation: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="fraction of the training set, stratified by class, that selects; the test set never does",
    )
    normalisation: Normalisation | Literal["computed"] = Field(
        "computed", description="mean and std per channel, or 'computed' from the training images"
    )
    augmentations: list[Annotated[Any, ComponentOf("augmentations")]] = Field(
        default_factory=list, description="what is done to each training batch, in order"
    )
    limit: int | None = Field(None, gt=0, description="use only so many training images, stratified by class")

    def fingerprint(self) -> str:
        """SHA-256 over the bytes that the images are made from; a touched time does not change it.

        Raises:
            UserError: the files are missing; says where they were looked for and what to do.
        """
        raise NotImplementedError(type(self).__name__)

    def load(self, seed: int) -> Data:
        """Read the images and split off the validation set with `seed`.

        Raises:
            UserError: files are missing or broken.
        """
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True)
class Data:
    """A data set in memory, split."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    normalisation: Normalisation
    augmentations: tuple[Component, ...] = ()

    @property
    def shape(self) -> Shape:
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


DATASETS: Registry[DataSet] = Registry("datasets", DataSet, "nasdistill.data.sets")
