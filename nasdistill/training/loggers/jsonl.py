"""Numbers as lines of JSON, for scripts and data frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasdistill.storage import write_text
from nasdistill.training.loggers import LOGGERS, Log, Logger


@LOGGERS.register("jsonl")
class JsonLines(Logger):
    """Scalars and histograms as JSON lines: `tensorboard/STAGE.jsonl`, one object with its `step` a line."""

    def open(self, place: Path, step: int, config: Mapping[str, Any]) -> Log:
        return Lines(Path(f"{place}.jsonl"), step)


class Lines(Log):
    """A file to which lines are added; what a kill left of its last line is dropped."""

    def __init__(self, path: Path, step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text("utf-8").splitlines(keepends=True) if path.is_file() else []
        whole = lines if not lines or lines[-1].endswith("}\n") else lines[:-1]
        write_text(path, "".join(line for line in whole if json.loads(line)["step"] < step))
        self.file = path.open("a", encoding="utf-8")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._add(step, values)

    def histogram(self, tag: str, counts: Sequence[int], step: int) -> None:
        self._add(step, {tag: list(counts)})

    def _add(self, step: int, values: Mapping[str, object]) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()
