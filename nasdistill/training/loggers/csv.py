"""Numbers as comma-separated values, for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasdistill.storage import write_text
from nasdistill.training.loggers import LOGGERS, Log, Logger

HEADER = "step,name,value\n"


@LOGGERS.register("csv")
class Csv(Logger):
    """Scalars as comma-separated values: `tensorboard/STAGE.csv`, a row of `step,name,value` for each."""

    def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
        return Rows(Path(f"{place}.csv"), step)


class Rows(Log):
    """A file to which rows are added; what a kill left of its last row is dropped."""

    def __init__(self, path: Path, step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text("utf-8").splitlines(keepends=True)[1:] if path.is_file() else []
        whole = [line for line in lines if line.endswith("\n")]
        write_text(path, HEADER + "".join(line for line in whole if int(line.partition(",")[0]) < step))
        self.file = path.open("a", encoding="utf-8", newline="")
        self.writer = csv.writer(self.file, lineterminator="\n")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.writer.writerows((step, name, value) for name, value in values.items())
        self.file.flush()

    def close(self) -> None:
        self.file.close()
