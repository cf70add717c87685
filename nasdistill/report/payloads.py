"""What a report reads from artifacts: curves, genotypes, growth plans, confusion matrices, attention maps, ensembles,
transitions, trials; each checked when read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from nasdistill.errors import DamagedFile
from nasdistill.report.records import Row
from nasdistill.storage import read_json

log = logging.getLogger(__name__)

P = TypeVar("P", bound=BaseModel)


class History(BaseModel):
    """`history.json`: how numbers went while a stage ran."""

    curves: dict[str, list[tuple[float, float]]] = Field(description="Points (x, y) by name, e.g. `loss/train`.")
    x: str = Field("epoch", description="What x counts.")


class Genotype(BaseModel):
    """`genotype.json`: a searched pair of cells, per inner node its edges (operation, input state)."""

    normal: list[list[tuple[str, int]]] = Field(description="The cell that keeps the resolution.")
    reduce: list[list[tuple[str, int]]] = Field(description="The cell that halves the resolution.")


class Growth(BaseModel):
    """`growth.json`: how a student became a teacher."""

    steps: list[dict[str, Any]] = Field(description="One mapping of plain values per step of the plan.")
    importance: dict[str, list[float]] = Field(description="Importance per cell, by the moment of measuring.")
    widths: dict[str, list[float]] = Field(description="Width per cell, `before` and `after`.")


class Confusion(BaseModel):
    """`confusion.json`: counts of the test set, rows true and columns predicted."""

    labels: list[str] = Field(min_length=1, description="Names of the classes.")
    matrix: list[list[float]] = Field(description="Square, in the order of the labels.")

    @model_validator(mode="after")
    def _square(self) -> Confusion:
        if {len(self.matrix), *map(len, self.matrix)} != {len(self.labels)}:
            raise ValueError(f"the matrix must have {len(self.labels)} rows and columns, one per label")
        return self


def _bytes(row: object) -> bytes:
    if not isinstance(row, str):
        raise ValueError("a row of a grid must be text")
    return bytes.fromhex(row)


def _of_one_length(rows: list[bytes]) -> list[bytes]:
    if len(set(map(len, rows))) != 1 or not rows[0]:
        raise ValueError("the rows of a grid must be of one length, over 0")
    return rows


Grid = Annotated[list[Annotated[bytes, BeforeValidator(_bytes)]], AfterValidator(_of_one_length)]
"""Rows of values 0 to 255, two hexadecimal digits each in the file."""


class AttentionImage(BaseModel):
    """A test image and what networks took it for."""

    label: str = Field(description="Its class.")
    student: str = Field(description="What the student took it for.")
    teachers: list[str] = Field(min_length=1, description="What each teacher took it for.")
    pixels: list[Grid] = Field(min_length=1, description="A grid per channel, all of one size.")

    @model_validator(mode="after")
    def _one_size(self) -> AttentionImage:
        if len({(len(grid), len(grid[0])) for grid in self.pixels}) != 1:
            raise ValueError("the channels must be of one size")
        return self


class AttentionPair(BaseModel):
    """A point of the student beside one of a teacher."""

    student: str = Field(description="Module path in the student.")
    teacher: str = Field(description="Module path in the teacher.")
    number: int = Field(ge=0, description="Which teacher, from 0.")
    similarity: float = Field(description="Mean cosine of the two maps over test images.")
    maps: list[tuple[Grid, Grid]] = Field(description="Per image the student's map and the teacher's.")


class Attention(BaseModel):
    """`attention.json`: where a student and its teachers look."""

    images: list[AttentionImage] = Field(min_length=1, description="The images that are shown.")
    pairs: list[AttentionPair] = Field(min_length=1, description="The points whose maps are shown.")

    @model_validator(mode="after")
    def _complete(self) -> Attention:
        if any(len(pair.maps) != len(self.images) for pair in self.pairs):
            raise ValueError(f"each pair must have {len(self.images)} pairs of maps, one per image")
        teachers = {len(image.teachers) for image in self.images}
        if len(teachers) != 1 or any(pair.number >= max(teachers) for pair in self.pairs):
            raise ValueError("the images and the pairs must speak of the same teachers")
        return self


class Paths(BaseModel):
    """Means over paths from test images to other classes, a value per step."""

    paths: int = Field(gt=0, description="How many.")
    student: list[float] = Field(min_length=1, description="How sure the student is of the class that is walked to.")
    teacher: list[float] = Field(min_length=1, description="How sure the teacher is of it.")
    error: list[float] = Field(min_length=1, description="How far the two are apart.")

    @model_validator(mode="after")
    def _of_one_length(self) -> Paths:
        if len({len(self.student), len(self.teacher), len(self.error)}) != 1:
            raise ValueError("the curves must be of one length")
        return self


class PathsToClass(Paths):
    """Those that lead to one class."""

    label: str = Field(description="Its name.")


class Transition(Paths):
    """`transition.json`: two networks while images are changed from class to class."""

    classes: list[PathsToClass] = Field(description="The same by the class that is walked to.")


class PseudoPicture(BaseModel):
    """What a generator made at one moment, and what was answered since the moment before."""

    done: int = Field(ge=0, description="Pseudo-batches so far.")
    images: list[list[Grid]] = Field(min_length=1, description="A grid per channel of each image.")
    student: list[Annotated[int, Field(ge=0)]] = Field(description="How often the student answered each class.")
    teacher: list[Annotated[int, Field(ge=0)]] = Field(description="How often the teacher answered each class.")


class Pseudo(BaseModel):
    """`pseudo.json`: how what a generator makes up changed."""

    classes: list[str] = Field(min_length=1, description="Names of the classes.")
    pictures: list[PseudoPicture] = Field(description="In the order in which they were taken.")

    @model_validator(mode="after")
    def _of_one_kind(self) -> Pseudo:
        images = [image for picture in self.pictures for image in picture.images]
        kinds = {tuple((len(grid), len(grid[0])) for grid in image) for image in images}
        if len(kinds) > 1 or any(len(set(kind)) != 1 for kind in kinds):
            raise ValueError("the images must have the same channels, all of one size")
        if {len(counts) for each in self.pictures for counts in (each.student, each.teacher)} - {len(self.classes)}:
            raise ValueError(f"student and teacher must have {len(self.classes)} counts each, one per class")
        if any(later.done <= earlier.done for earlier, later in pairwise(self.pictures)):
            raise ValueError("the pictures must be in the order in which they were taken")
        return self


Percent = Annotated[float, Field(ge=0, le=100)]
NotNegative = Annotated[float, Field(ge=0, le=2**53)]
BINS = 15
"""Of confidence, as networks are scored."""


class Score(BaseModel):
    """What a network, or several together, score on the test images."""

    accuracy: Percent = Field(description="Top-1, in percent.")
    loss: NotNegative = Field(description="Mean cross-entropy, in nats.")
    calibration_error: float = Field(ge=0, le=1, description="Expected calibration error.")
    bins: list[tuple[NotNegative, NotNegative, NotNegative]] = Field(
        min_length=BINS,
        max_length=BINS,
        description="Per bin of confidence its images, how many are correct, the sum of their confidences.",
    )

    @model_validator(mode="after")
    def _counted(self) -> Score:
        # Confidences are sums of float32 numbers, which may come out a little over 1 each.
        if any(max(correct, sure / 1.0001) > images for images, correct, sure in self.bins):
            raise ValueError("a bin must have no more correct images, and no more confidence, than images")
        if not self.images:
            raise ValueError("the bins must hold at least one image")
        return self

    @property
    def images(self) -> float:
        return sum(images for images, _correct, _sure in self.bins)


class OneNetwork(Score):
    """A network alone."""

    name: str = Field(description="Its name.")
    member: bool = Field(description="Whether it is part of the ensemble; others stand beside it.")


class FirstMembers(Score):
    """The first members of an ensemble together."""

    members: int = Field(ge=2, description="How many.")


class Ensemble(BaseModel):
    """`ensemble.json`: networks alone and together."""

    networks: list[OneNetwork] = Field(min_length=1, description="Each alone, in order.")
    ensembles: list[FirstMembers] = Field(description="Of the first 2, 3, ... members.")
    agreement: list[list[Percent]] = Field(
        description="Percent of the test images to which two networks answer the same class; in the networks' order."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Ensemble:
        count, members = len(self.networks), len(self.members)
        if len({network.name for network in self.networks}) != count:
            raise ValueError("the networks must have different names")
        if not members or [each.members for each in self.ensembles] != list(range(2, members + 1)):
            raise ValueError("there must be members, and an ensemble of the first 2, 3, ... up to all of them")
        scores = [*self.networks, *self.ensembles]
        if len({score.images for score in scores}) != 1:
            raise ValueError("all must be scored on as many images")
        if {len(self.agreement), *map(len, self.agreement)} != {count}:
            raise ValueError(f"the agreement must have {count} rows and columns, one per network")
        return self

    @property
    def members(self) -> list[OneNetwork]:
        return [network for network in self.networks if network.member]

    @property
    def whole(self) -> Score:
        """All members together."""
        return self.ensembles[-1] if self.ensembles else self.members[0]


class SearchTrial(BaseModel):
    """An architecture that a search tried."""

    chosen: dict[str, Any] = Field(description="By label the alternative that it has; plain data.")
    parameters: int = Field(ge=0, description="Of the network that it describes.")
    score: Percent | None = Field(description="The best of the curve; None where training diverged.")
    curve: list[Percent] = Field(description="The score after each epoch.")
    stopped: str | None = Field(description="Why training ended early.")
    like: int | None = Field(ge=0, description="Number of the earlier trial that had the same architecture.")


class SearchTrials(BaseModel):
    """`trials.json`: the architectures that a search trained, one after the other."""

    score: str = Field(description="What the score is, e.g. `accuracy`.")
    best: int = Field(ge=0, description="Number of the trial that was found.")
    trials: list[SearchTrial] = Field(min_length=1, description="In the order of the trials.")

    @model_validator(mode="after")
    def _consistent(self) -> SearchTrials:
        if any(trial.like is not None and trial.like >= number for number, trial in enumerate(self.trials)):
            raise ValueError("a trial can only be like an earlier one")
        if any(trial.score != max(trial.curve, default=None) for trial in self.trials):
            raise ValueError("the score must be the best of the curve")
        if self.best >= len(self.trials) or self.trials[self.best].score is None:
            raise ValueError("the best trial must be one that has a score")
        if len({frozenset(trial.chosen) for trial in self.trials}) != 1:
            raise ValueError("all trials must choose for the same labels")
        return self


FILES: dict[type[BaseModel], str] = {
    History: "history.json",
    Genotype: "genotype.json",
    Growth: "growth.json",
    Confusion: "confusion.json",
    Attention: "attention.json",
    Pseudo: "pseudo.json",
    Ensemble: "ensemble.json",
    Transition: "transition.json",
    SearchTrials: "trials.json",
}


def read(kind: type[P], folder: Path | None) -> P | None:
    """The payload of a kind in an artifact's folder, or None where the stage wrote none.

    Raises:
        DamagedFile: the file is not what its kind asks for.
    """
    path = None if folder is None else folder / FILES[kind]
    if path is None or not path.is_file():
        return None
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top"
        raise DamagedFile(f"{path} cannot be shown: {first['msg']} at {place}") from None


def by_seed(kind: type[P], rows: Sequence[Row]) -> dict[int, P]:
    """A payload of a stage by seed. A damaged one is left out and named: a report must not fail for one picture."""
    found = {}
    for row in rows:
        try:
            content = read(kind, row.folder)
        except DamagedFile as error:
            log.warning("%s; the report leaves it out", error)
            continue
        if content is not None:
            found[row.seed] = content
    return found
