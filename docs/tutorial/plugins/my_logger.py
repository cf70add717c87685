"""A logger: one curve of each stage as a table of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from nasdistill.training.loggers import LOGGERS, Log, Logger


class Table(Log):
    """Rows `step,value` in a file, of which those from `step` on are replaced."""

    def __init__(self, path: Path, curve: str, step: int) -> None:
        self.curve = curve
        rows = path.read_text().splitlines(keepends=True) if path.is_file() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w")
        self.file.writelines(row for row in rows if int(row.split(",")[0]) < step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if self.curve in values:
            self.file.write(f"{step},{values[self.curve]}\n")
            self.file.flush()

    def close(self) -> None:
        self.file.close()


@LOGGERS.register("curve")
class Curve(Logger):
    """One curve: `tensorboard/STAGE.curve`, a row of step and value for each point."""

    curve: str = Field("validation/accuracy", description="name of the curve, as TensorBoard has it")

    def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
        return Table(Path(f"{place}.curve"), self.curve, step)
