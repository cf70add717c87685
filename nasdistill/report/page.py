"""The report of a run, and the comparison of several: one HTML file each, which asks nothing of the network."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from nasdistill.artifacts import open_artifact
from nasdistill.errors import UserError
from nasdistill.report import courses, exports, pareto, payloads, plots, sweeps, tables, words
from nasdistill.report.experiments import Experiment
from nasdistill.report.page_file import write_page
from nasdistill.report.parts import Group, Part
from nasdistill.report.points import in_words, value_in_words
from nasdistill.report.records import LeftOut, Row, RunRecord
from nasdistill.report.sections import sections
from nasdistill.report.summaries import Difference, StageSummary, by_stage, comparable_pairs
from nasdistill.report.verdict import verdict
from nasdistill.words import NONE, duration, whole

log = logging.getLogger(__name__)

TEST_ACCURACY = "test/accuracy"


def write_report(record: RunRecord, path: Path) -> None:
    """Write the page of one run: what was run, what each step gained, and how to do it again."""
    stages = by_stage(record.rows)
    take = sweeps.to_take(record)
    pairs = [(later.stage, earlier.stage, difference) for later, earlier, difference in comparable_pairs(stages)]
    write_page(
        path,
        render(
            "page.html.j2",
            record=record,
            facts=_facts(record),
            verdict=verdict(stages, take, swept=bool(record.sweep)),
            steps=[(stage, words.gain(stage, stages[:number])) for number, stage in enumerate(stages)],
            results=tables.results(stages),
            differences=tables.differences(pairs) if pairs else None,
            exports=exports.table(stages),
            how_to_ask=exports.how_to_ask(stages, take),
            parts=[*([sweeps.part(record)] if record.sweep else []), *_overview(stages), *sections(stages, take)],
            provenance=_provenance(stages),
        ),
    )


def write_comparison(records: Sequence[RunRecord], path: Path) -> None:
    """Write one page that puts several runs side by side."""
    runs = {name: by_stage(record.rows) for name, record in zip(_unique_names(records), records, strict=True)}
    labelled = [
        dataclasses.replace(stage, stage=f"{run}: {stage.stage}") for run, found in runs.items() for stage in found
    ]
    pairs = _pairs_across(runs)
    points = {
        run: [
            (size, accuracy.mean)
            for stage in found
            if (size := stage.mean("parameters")) is not None and (accuracy := stage.accuracy())
        ]
        for run, found in runs.items()
    }
    points = {run: places for run, places in points.items() if places}
    write_page(
        path,
        render(
            "comparison.html.j2",
            runs=[(name, record, _facts(record)) for name, record in zip(runs, records, strict=True)],
            results=tables.results([stage for stage in labelled if stage.accuracies()] or labelled),
            differences=tables.differences(pairs) if pairs else None,
            picture=plots.scatter(points, "Accuracy and size", "parameters", "test accuracy, %") if points else None,
        ),
    )


def render(template: str, **values: Any) -> str:
    """A page from a template of this folder; markup in names is inert."""
    page = _templates().get_template(template).render(**values)
    return page.encode(errors="replace").decode()  # a name in JSON may hold half a letter, which no file can


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"inline": _inline, "breakable": _breakable, "with_code": _with_code}
    return environment


def _inline(svg: str) -> Markup:
    """A picture of ours within the page, where an SVG element needs no namespace."""
    return Markup(re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg, count=2))  # noqa: S704  (plots and cells escape every name)


def _with_code(sentence: str) -> Markup:
    """A sentence whose words in backticks are to be typed."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704  (what is not ours is escaped)


def _breakable(text: str) -> Markup:
    """A key that may be broken behind its dots."""
    return escape(text).replace(".", Markup(".<wbr>"))


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    swept = (("swept", f"{key}: {', '.join(map(value_in_words, values))}") for key, values in record.sweep.items())
    left_out = (("left out", _left_out(each)) for each in record.left_out)
    return facts(record, ("seeds", ", ".join(map(str, record.seeds))), *swept, *left_out)


def facts(record: RunRecord | Experiment, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """When and where something was run, and `more`."""
    return [
        ("started", moment(record.started)),
        ("took", duration(record.seconds)),
        ("machine", record.device),
        *more,
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]


def _left_out(one: LeftOut) -> str:
    at = f", {in_words(one.point)}" if one.point else ""
    return f"{one.stage}{at}, seed {one.seed}: {one.reason}"


def moment(text: str) -> str:
    """A time of ISO 8601 as people write it; anything else as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return text


def _overview(stages: Sequence[StageSummary]) -> list[Part]:
    """What the stages reach, side by side; nothing where none has an accuracy."""
    pictures = [*pareto.pictures(stages), *_courses(stages)]
    lead = pareto.LEAD
    if any(stage.counts == "last" for stage in stages):
        lead += " Where nothing is selected, it is the accuracy of the last weights."
    return [Part("Overview", lead, (Group("", tuple(pictures)),))] if pictures else []


def _courses(stages: Sequence[StageSummary]) -> Iterator[str]:
    by_unit: dict[str, dict[str, list[plots.Curve]]] = {}
    for stage in stages:
        for history in payloads.by_seed(payloads.HistoryPayload, stage.rows).values():
            if curve := history.curves.get(TEST_ACCURACY):
                by_unit.setdefault(history.x, {}).setdefault(stage.stage, []).append(curve)
    for unit, curves in by_unit.items():  # epochs and pseudo-batches share no axis
        title = "Test accuracy while training" if unit == "epoch" else f"Test accuracy over {unit}"
        yield from courses.pictures([stage for stage in stages if stage.stage in curves], curves, title, unit)


def _provenance(stages: Sequence[StageSummary]) -> tables.Table:
    """One line per artifact: which it is, who made it, at which cost."""
    return tables.plain([_origin(row) for stage in stages for row in stage.rows])


def _origin(row: Row) -> dict[str, str]:
    line = {"stage": row.stage, "seed": str(row.seed), "made by": "an earlier run" if row.cached else "this run"}
    if row.folder is None:
        return line
    try:
        manifest = open_artifact(row.folder, verify=False).manifest
    except UserError as error:
        log.warning("%s; the report leaves its origin out", error)
        return line
    memory, rate, share = map(manifest.cost.get, ("peak_memory_bytes", "samples_per_second", "evaluation_share"))
    return {
        **line,
        "images/s": whole(rate),
        "evaluations": NONE if share is None else f"{share:.0%} of the time",
        "peak memory": NONE if memory is None else f"{memory / 2**20:,.0f} MiB",
        "git commit": (manifest.provenance.get("git") or NONE)[:12],
        "artifact": row.folder.name,
    }


def _unique_names(records: Sequence[RunRecord]) -> list[str]:
    """The runs' names, numbered where two are equal."""
    total = Counter(record.name for record in records)
    seen: Counter[str] = Counter()
    names = []
    for record in records:
        seen[record.name] += 1
        names.append(f"{record.name} ({seen[record.name]})" if total[record.name] > 1 else record.name)
    return names


def _pairs_across(runs: dict[str, list[StageSummary]]) -> list[tuple[str, str, Difference]]:
    """Stages of one name in two runs, the later run against the earlier."""
    names = list(runs)
    found = []
    for number, later in enumerate(names):
        for earlier in names[:number]:
            others = {stage.stage: stage for stage in runs[earlier]}
            for stage in runs[later]:
                difference = stage.over(others[stage.stage]) if stage.stage in others else None
                if difference is not None:
                    found.append((f"{later}: {stage.stage}", f"{earlier}: {stage.stage}", difference))
    return found
