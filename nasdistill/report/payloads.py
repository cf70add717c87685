"""What a report reads from artifacts, checked when read; here what several parts of a page need."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from nasdistill.artifacts import open_artifact
from nasdistill.errors import DamagedFile, UserError
from nasdistill.report.records import Row
from nasdistill.storage import read_json
from nasdistill.validation import first_mistake

log = logging.getLogger(__name__)

P = TypeVar("P", bound="Payload")
Percent = Annotated[float, Field(ge=0, le=100)]
NotNegative = Annotated[float, Field(ge=0, le=2**53)]


class Payload(BaseModel):
    """Base of what a stage leaves in a JSON file of its artifact; the file may hold more than a report shows."""

    file: ClassVar[str]
    """Its name in the artifact's folder."""


class HistoryPayload(Payload):
    """`history.json`: how numbers went while a stage ran."""

    file = "history.json"

    curves: dict[str, list[tuple[float, float]]] = Field(description="Points (x, y) by name, e.g. `loss/train`.")
    x: str = Field("epoch", description="What x counts.")
    found: list[tuple[NotNegative, dict[str, Any]]] = Field(
        [], description="[x, model], in order: what a search would have found, had it ended then."
    )
    found_x: str = Field("epoch", description="What x counts where what a search would have found is judged.")


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


class EnsemblePayload(Payload):
    """`ensemble.json`: networks alone and together."""

    file = "ensemble.json"

    networks: list[OneNetwork] = Field(min_length=1, description="Each alone, in order.")
    ensembles: list[FirstMembers] = Field(description="Of the first 2, 3, ... members.")
    agreement: list[list[Percent]] = Field(
        description="Percent of the test images for which two networks predict the same class; in the networks' order."
    )

    @model_validator(mode="after")
    def _consistent(self) -> EnsemblePayload:
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


def read(kind: type[P], folder: Path | None) -> P | None:
    """The payload of a kind in an artifact's folder, or None where the stage wrote none.

    Raises:
        DamagedFile: the file is not what its kind asks for.
    """
    path = None if folder is None else folder / kind.file
    if path is None or not path.is_file():
        return None
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise DamagedFile(f"{path} cannot be shown: {first_mistake(error)}") from None


def of_row(kind: type[P], row: Row) -> P | None:
    """The payload of a kind in the artifact of a row, checked against its hash; None where the stage wrote none.

    Raises:
        UserError: the file, or the artifact's own record, is not what was written.
    """
    if row.folder is None or not (row.folder / kind.file).is_file():
        return None
    open_artifact(row.folder, verify=False).verify(kind.file)
    return read(kind, row.folder)


def by_seed(kind: type[P], rows: Sequence[Row], problems: list[str] | None = None) -> dict[int, P]:
    """A payload of a stage by seed. A damaged one is left out and named: a report must not fail for one picture.

    Args:
        problems: gets the sentences that name what is left out.
    """
    found = {}
    for row in rows:
        try:
            content = of_row(kind, row)
        except UserError as error:
            log.warning("%s; the report leaves it out", error)
            if problems is not None:
                problems.append(f"{error}.")
            continue
        if content is not None:
            found[row.seed] = content
    return found
