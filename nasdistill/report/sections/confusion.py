"""Which classes are confused with which."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from nasdistill.report import answer_plots, words
from nasdistill.report.parts import Group
from nasdistill.report.payloads import NotNegative, Payload
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.report.summaries import summary_of

MOST_CLASSES = 40
"""Whose accuracies one picture can show."""


class ConfusionPayload(Payload):
    """`confusion.json`: counts of the test set, rows true and columns predicted."""

    file = "confusion.json"

    labels: list[str] = Field(min_length=1, description="Names of the classes.")
    matrix: list[list[float]] = Field(description="Square, in the order of the labels.")
    bins: list[tuple[NotNegative, NotNegative, NotNegative]] = Field(
        [], description="Per bin of confidence its images, how many are correct, the sum of their confidences."
    )

    @model_validator(mode="after")
    def _square(self) -> ConfusionPayload:
        if {len(self.matrix), *map(len, self.matrix)} != {len(self.labels)}:
            raise ValueError(f"the matrix must have {len(self.labels)} rows and columns, one per label")
        return self

    @property
    def images(self) -> int:
        """How many were scored."""
        return round(sum(map(sum, self.matrix)))


def summed(payloads: Sequence[ConfusionPayload]) -> ConfusionPayload:
    """All seeds together; those with other labels than the first are left out."""
    same = [payload for payload in payloads if payload.labels == payloads[0].labels]
    matrix = [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*(p.matrix for p in same), strict=True)]
    return ConfusionPayload(labels=payloads[0].labels, matrix=matrix)


@SECTIONS.register("confusion")
class Confusions(Section):
    """Test images by true and predicted class."""

    title = "Classes"
    lead = (
        "Test images by true and predicted class: blue is right, orange is wrong, stronger is a larger share. Beside "
        "the network to take: how often it is right in each class, and how often where it is so sure; dots below the "
        "dashed line are surer than right."
    )
    payload = ConfusionPayload
    place = 8

    def groups(self, found: Sequence[Found[ConfusionPayload]]) -> list[Group]:
        """The network to take with all that is known of it; of the others the matrices."""
        groups = [_all_of(each) for each in found if each.to_take]
        others = [each for each in found if not each.to_take]
        if others:
            groups.append(Group("Other networks" if groups else "", tuple(map(_matrix, others))))
        return groups


def _matrix(found: Found[ConfusionPayload]) -> str:
    together = summed([*found.by_seed.values()])
    seeds = len(found.by_seed)
    return answer_plots.confusion(
        together.matrix, together.labels, found.stage.stage + (f", {seeds} seeds" * (seeds > 1))
    )


def _all_of(found: Found[ConfusionPayload]) -> Group:
    """The matrix, the accuracy of each class with its interval, and how right the network is by how sure it is."""
    together = summed([*found.by_seed.values()])
    pictures = [_matrix(found)]
    if len(together.labels) <= MOST_CLASSES:
        of_class = [(row[number], sum(row)) for number, row in enumerate(together.matrix)]
        pictures.append(answer_plots.shares(of_class, together.labels, "Accuracy of each class"))
    bins = [payload.bins for payload in found.by_seed.values() if payload.bins]
    if bins:
        errors = summary_of(row.metrics.get("calibration_error") for row in found.stage.rows)
        note = f"calibration error\n{words.spread(errors, 3)}"
        pictures.append(answer_plots.reliability(bins, "Accuracy over confidence", note))
    return Group(found.stage.stage, tuple(pictures))
