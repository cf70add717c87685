"""The results of runs as rows for other programs: one a stage, point and seed, with where and from what it came."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nasdistill.artifacts import Manifest, open_artifact
from nasdistill.errors import UserError
from nasdistill.report import sweeps, tables
from nasdistill.report.points import value_in_words
from nasdistill.report.records import ACCURACIES, Row, RunRecord
from nasdistill.storage import write_text

FIRST = ("recipe", "stage", "uses")
MEASURED = (*ACCURACIES, "validation", "parameters", "multiply_adds", "latency_ms", "seconds")
WITHOUT_DATA = ("taught_by_accuracy", "over_time")
ORIGIN = ("nasdistill", "commit", "machine", "content")


def table(records: Sequence[RunRecord]) -> tables.Table:
    """One row a stage, point and seed: what was measured, and the version, commit and machine that measured it.

    Of a transfer without data that is its teacher's accuracy, too, and as JSON its own over the seconds.
    """
    keys = list(dict.fromkeys(key for record in records for key in record.sweep))
    header = (*FIRST, *keys, "seed", *MEASURED, *WITHOUT_DATA, *ORIGIN)
    return tables.raw(header, (tuple(_cells(record, row, keys)) for record in records for row in record.rows))


def _cells(record: RunRecord, row: Row, keys: Sequence[str]) -> Iterator[Any]:
    manifest = _manifest(row)
    provenance = manifest.provenance if manifest else {}
    yield from (record.name, row.stage, row.uses)
    yield from (value_in_words(row.point[key]) if key in row.point else None for key in keys)
    yield row.seed
    yield from ((row.accuracy or {}).get(kind) for kind in ACCURACIES)
    yield from (sweeps.validation_of(row), row.parameters, row.multiply_adds, row.latency_ms, row.seconds)
    yield row.metrics.get("taught_by_accuracy")
    yield json.dumps(row.over_time) if row.over_time else None
    yield provenance.get("versions", record.versions).get("nasdistill")
    yield from (provenance.get("git"), provenance.get("device", record.device), row.content)


def _manifest(row: Row) -> Manifest | None:
    """What the stage's artifact tells of its making; None where it is gone or damaged."""
    try:
        return open_artifact(row.folder, verify=False).manifest if row.folder else None
    except UserError:
        return None


def write_rows(records: Sequence[RunRecord], path: Path) -> None:
    """Write `table` as CSV, in place of such a table alone.

    Raises:
        UserError: another file is there.
    """
    start = ",".join(FIRST)
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(start.encode())):
        raise UserError(f"{path} is there and holds no rows of runs; choose another name")
    write_text(path, tables.to_csv(table(records)))
