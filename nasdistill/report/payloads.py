"""What a report reads from artifacts: curves, genotypes, growth plans, confusion matrices; each checked when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from nasdistill.errors import DamagedFile
from nasdistill.storage import read_json

P = TypeVar("P", bound=BaseModel)


class History(BaseModel):
    """`history.json`: how numbers went while a stage ran."""

    curves: dict[str, list[tuple[float, float]]] = Field(description="Points (x, y) by name, e.g. `loss/train`.")


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


FILES: dict[type[BaseModel], str] = {
    History: "history.json",
    Genotype: "genotype.json",
    Growth: "growth.json",
    Confusion: "confusion.json",
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
