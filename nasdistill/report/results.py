"""The files of a run with its results: `results.json` for other programs, `run.json` for reports."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nasdistill.errors import DamagedFile, UserError
from nasdistill.ledger import Ledger
from nasdistill.report.records import ACCURACIES, Row, RunRecord
from nasdistill.storage import json_text, read_sealed, sealed
from nasdistill.validation import first_mistake

log = logging.getLogger(__name__)

RESULTS = "results.json"
RUN = "run.json"
FORMAT = 1
T = TypeVar("T")

_RUN = TypeAdapter(RunRecord)


def save_run(record: RunRecord, folder: Path) -> None:
    """Write `results.json` and `run.json` into the run's folder."""
    write_results(record.rows, folder)
    rows = [{**dataclasses.asdict(row), "folder": _inside(row.folder, folder)} for row in record.rows]
    Ledger(folder).write(RUN, sealed({"format": FORMAT, **dataclasses.asdict(record), "rows": rows}))


def load_run(folder: Path) -> RunRecord:
    """Read what `save_run` wrote; the artifacts' folders are found below `folder`, wherever that was moved to.

    Raises:
        UserError: `folder` is no run, or one of another format.
        DamagedFile: the record is not what was written.
    """
    record = read_record(_RUN, folder, RUN, "a run")
    return dataclasses.replace(record, rows=tuple(_placed(row, folder, folder / RUN) for row in record.rows))


def read_record(adapter: TypeAdapter[T], folder: Path, name: str, what: str) -> T:
    """Read the sealed file of `folder` that records all of a run, or of whatever else `what` says with its article.

    Raises:
        UserError: `folder` holds no such file, or one of another format.
        DamagedFile: it is not what was written.
    """
    path = folder / name
    if not folder.is_dir():
        raise UserError(f"{folder} is not {what}: there is no such folder")
    if not path.is_file():
        raise UserError(f"{folder} is not {what}: it holds no {name} (it is written when {what} ends)")
    content = read_sealed(path, newest=FORMAT)
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise DamagedFile(f"{path} is damaged: {first_mistake(error)}") from None


def warn_of_damage(folder: Path) -> None:
    """Name the files of a run that no report reads and that are not what was written, as far as it noted that."""
    ledger = Ledger(folder)
    for name in ledger.hashes:
        try:
            ledger.check(name)
        except DamagedFile as error:
            log.warning("%s", error)


def write_results(rows: tuple[Row, ...], folder: Path) -> None:
    """Write `results.json`: a list, one mapping per stage, seed and point; null where a stage has no such number."""
    Ledger(folder).write(RESULTS, json_text([_result(row, folder) for row in rows]))


def _result(row: Row, folder: Path) -> dict[str, Any]:
    return {
        "stage": row.stage,
        "uses": row.uses,
        "seed": row.seed,
        "parameters": row.parameters,
        "multiply_adds": row.multiply_adds,
        "accuracy": row.accuracy and {name: row.accuracy.get(name) for name in ACCURACIES},
        "seconds": row.seconds,
        "latency_ms": row.latency_ms,
        "artifact": _inside(row.folder, folder),
        "cached": row.cached,
        "point": dict(row.point),
        "metrics": dict(row.metrics),
    }


def _inside(artifact: Path | None, folder: Path) -> str | None:
    """The artifact's place relative to the run, so that the run can be moved as a whole."""
    return None if artifact is None else Path(os.path.relpath(artifact, folder)).as_posix()


def _placed(row: Row, folder: Path, path: Path) -> Row:
    if row.folder is None:
        return row
    if row.folder.is_absolute() or ".." in row.folder.parts:
        raise DamagedFile(f"{path} names an artifact outside its folder: {str(row.folder)!r}")
    return dataclasses.replace(row, folder=folder / row.folder)
