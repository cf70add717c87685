"""Which classes are confused with which."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from nasdistill.report import plots
from nasdistill.report.parts import Group
from nasdistill.report.payloads import Payload
from nasdistill.report.sections import SECTIONS, Found, Section


class ConfusionPayload(Payload):
    """`confusion.json`: counts of the test set, rows true and columns predicted."""

    file = "confusion.json"

    labels: list[str] = Field(min_length=1, description="Names of the classes.")
    matrix: list[list[float]] = Field(description="Square, in the order of the labels.")

    @model_validator(mode="after")
    def _square(self) -> ConfusionPayload:
        if {len(self.matrix), *map(len, self.matrix)} != {len(self.labels)}:
            raise ValueError(f"the matrix must have {len(self.labels)} rows and columns, one per label")
        return self


@SECTIONS.register("confusion")
class Confusions(Section):
    """Test images by true and predicted class."""

    title = "Confusion matrices"
    lead = "Test images by true and predicted class: blue is right, orange is wrong, stronger is a larger share."
    payload = ConfusionPayload
    place = 90

    def groups(self, found: Sequence[Found[ConfusionPayload]]) -> list[Group]:
        pictures = []
        for each in found:
            first, *others = each.by_seed.values()
            same = [first, *(confusion for confusion in others if confusion.labels == first.labels)]
            matrix = [
                [sum(cells) for cells in zip(*rows, strict=True)]
                for rows in zip(*(confusion.matrix for confusion in same), strict=True)
            ]
            title = each.stage.stage if len(same) == 1 else f"{each.stage.stage}, {len(same)} seeds"
            pictures.append(plots.confusion(matrix, first.labels, title))
        return [Group("", tuple(pictures))]
