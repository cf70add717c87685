"""Running a recipe: each stage once, its artifact found again by its key, a killed one continued."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nasdistill.artifacts import Artifact
from nasdistill.errors import UserError
from nasdistill.interrupts import leave_if_requested
from nasdistill.ledger import Ledger, not_ours
from nasdistill.recipes.graph import order
from nasdistill.recipes.loading import Recipe
from nasdistill.recipes.lock import run_lock
from nasdistill.recipes.place import RECIPE, UNFINISHED, check_run, is_link, recipe_of
from nasdistill.recipes.provenance import device_in_words, engine_of, versions
from nasdistill.recipes.recipe_run import PlannedStage, RecipeRun, StageListener
from nasdistill.recipes.schema import RecipeFile
from nasdistill.recipes.sweep import Point, Sweep, joined, reached
from nasdistill.report.page_file import REPORT
from nasdistill.report.points import folder_name, in_words
from nasdistill.report.records import LeftOut, Row, RunRecord
from nasdistill.report.results import load_run, save_run
from nasdistill.report.sweeps import write_sweep
from nasdistill.storage import remove_leftovers, sealed
from nasdistill.training.launch import naming_the_lost

log = logging.getLogger(__name__)


def plan(recipe: Recipe | Sweep, out: Path, before: RecipeRun | None = None) -> list[PlannedStage]:
    """What `run` would do, stage by stage, without doing it; what several points share stands there once.

    What the user should know beforehand of stages that are to run is logged as warnings, each once, and a line says
    which stages are left out.

    Args:
        before: whose data are used where they are the same.

    Raises:
        UserError: a stage refuses what it would read.
    """
    found: list[PlannedStage] = []
    left_out: dict[str, str] = {}
    for point, seed, this_run in _visits(_sweep(recipe), out, before=before):
        planned_here, left_out_here = _planned(point, seed, this_run, {})
        found += planned_here
        left_out |= left_out_here
    nowhere = left_out.keys() - {planned.name for planned in found}
    if nowhere:
        reasons = [f"{name} ({reason})" for name, reason in left_out.items() if name in nowhere]
        log.info("left out: %s", ", ".join(reasons))
    warned: dict[str, dict[str, None]] = {}
    for planned in found:
        for caveat in planned.caveats:
            warned.setdefault(caveat, {})[planned.name] = None
    for caveat, names in warned.items():
        log.warning("%s: %s", ", ".join(names), caveat)
    places = reached([(planned.name, planned.seed, planned.point, planned.identity) for planned in found])
    return [replace(found[at], point=point) for at, point in places]


def _planned(
    point: Point, seed: int, this_run: RecipeRun, made: Mapping[str, Artifact]
) -> tuple[list[PlannedStage], dict[str, str]]:
    """The stages of a point beside those already `made`, each checked against what is known of those before it.

    Returns:
        Those that are to run, and the reasons why others are left out.
    """
    done: dict[str, Artifact | PlannedStage] = {**made}
    found, left_out = [], {}
    for name in order(point.recipe.stages):
        if name in made:
            continue
        if reason := this_run.reason_to_leave_out(name, done):
            left_out[name] = reason
            continue
        planned = this_run.foreseen(replace(this_run.planned(name, seed, done), point=point.values), done)
        done[name] = planned.artifact or planned
        found.append(planned)
    return found, left_out


def run(recipe: Recipe | Sweep, out: Path, command: str, listen: StageListener | None = None) -> RunRecord:
    """Run every stage that is not done yet, and write `recipe.yaml`, `results.json` and `report.html` into `out`.

    A sweep runs point by point in the one folder, so that what several points share is done once; its outcome is also
    joined into `sweep.md` and `sweep.csv`.

    Of several processes that compute together the first one calls this, and the others `follow`. Signals are left as
    they are; within `nasdistill.interrupts.polite_stops` a run saves before it leaves.

    Args:
        command: what the user typed, for the report.
        listen: is told the numbers of every stage while it runs.

    Raises:
        UserError: `out` is in use or holds what the run would replace; or something a stage was given is wrong.
        Interrupted: a signal asked to stop; the same call goes on from there.
    """
    sweep = _sweep(recipe)
    if sweep.recipe.passed_over:
        raise UserError(f"nobody said yes to {sweep.recipe.passed_over[0]}, which the recipe needs")
    started = time.monotonic()
    began = datetime.now(timezone.utc).isoformat(timespec="seconds")
    check_run(sweep, out)  # before a lock lies in a folder that is none of ours
    with run_lock(out), naming_the_lost():
        for folder in (out, out / "artifacts", out / "stages"):
            if not folder.is_symlink():  # what lies there may be on another run's way in
                remove_leftovers(folder)
        text, ledger, other = sweep.recipe.text(), check_run(sweep, out), recipe_of(out)
        if other not in (None, sweep.recipe.settings.name):
            stays = "%s was the run of %r: its page and results are replaced, all else stays until `nasdistill clean`"
            log.warning(stays, out, other)
        ledger.write(RECIPE, text)
        rows: list[Row] = []
        left_out: list[LeftOut] = []
        foreseen = False
        for point, seed, this_run in _visits(sweep, out, listen):
            if point.values:
                log.info("point %d of %d: %s", sweep.points.index(point) + 1, len(sweep.points), in_words(point.values))
            done: dict[str, Artifact] = {}
            for name in order(point.recipe.stages):
                leave_if_requested()
                if reason := this_run.reason_to_leave_out(name, done):
                    log.info("%s (seed %d) is left out: %s", name, seed, reason)
                    left_out.append(LeftOut(name, seed, point.values, reason))
                    continue
                planned = this_run.planned(name, seed, done)
                if planned.cached:
                    shutil.rmtree(this_run.work(planned), ignore_errors=True)  # killed right after publishing
                elif not foreseen:
                    plan(sweep, out, this_run)  # what a later stage refuses is told before hours of work
                    foreseen = True
                    Ledger(out).write(UNFINISHED, sealed({"command": command}))
                done[name] = planned.artifact or this_run.execute(planned, done)
                if not planned.cached and point.recipe.stages[name].makes == "architecture":
                    _planned(point, seed, this_run, done)  # what could not be foreseen of it is known now
                rows.append(replace(Row.of(done[name], planned.cached), stage=name, point=point.values))
                if not sweep.grid:  # else the names are known when all points are
                    link_stages(rows[-1:], sweep.recipe.seeds, out)
        record = RunRecord(
            name=sweep.recipe.settings.name,
            recipe=text,
            command=command,
            seeds=sweep.recipe.seeds,
            rows=tuple(joined(rows)),
            versions=versions(),
            device=device_in_words(sweep.recipe.settings.engine),
            started=began,
            seconds=time.monotonic() - started,
            sweep=sweep.grid,
            published=_published(sweep.recipe.settings),
            left_out=tuple(left_out),
        )
        link_stages(record.rows, record.seeds, out)
        shown = _shown_already(record, out)
        save_run(record, out)
        write_sweep(record, out)
        if not shown:
            from nasdistill.report.page import write_report  # matplotlib takes a second to import

            write_report(record, out / REPORT)
        Ledger(out).remove(UNFINISHED)
    return record


def _published(settings: RecipeFile) -> Mapping[str, Any]:
    """What others report for this recipe on its data, see `RunRecord.published`."""
    told = settings.published
    return told.accuracy if told is not None and told.data == settings.data.registered_name else {}


def _shown_already(record: RunRecord, out: Path) -> bool:
    """Whether the page in `out` shows these very results; drawing it again would take longer than finding them."""
    try:
        before = load_run(out)
    except UserError:
        return False

    def shown(run: RunRecord) -> list[Any]:
        rows = [(row.stage, row.seed, row.point, row.folder) for row in run.rows]
        return [run.recipe, run.versions, run.sweep, rows, run.left_out]

    return (out / REPORT).is_file() and all(row.cached for row in record.rows) and shown(before) == shown(record)


def link_stages(rows: Iterable[Row], seeds: Sequence[int], out: Path) -> None:
    """Give each artifact of a run a name that can be typed: `stages/<stage>`, with its point and seed if several."""
    names = out / "stages"
    names.mkdir(exist_ok=True)
    for row in rows:
        if row.folder is not None:
            name = folder_name(row.stage, row.point)
            name = name if len(seeds) == 1 else f"{name}-seed-{row.seed}"
            if os.path.lexists(names / name) and not is_link(names / name):
                raise not_ours(out, [f"stages/{name}"])
            incoming = names / f".{name}.{uuid.uuid4().hex}.partial"
            incoming.symlink_to(os.path.relpath(row.folder, names), target_is_directory=True)
            os.replace(incoming, names / name)


def follow(recipe: Recipe | Sweep, out: Path) -> None:
    """What all but the first process of a run on several devices do: compute their share, leave the folder alone."""
    foreseen = False
    with naming_the_lost():
        for point, seed, this_run in _visits(_sweep(recipe), out):
            done: dict[str, Artifact] = {}
            for name in order(point.recipe.stages):
                leave_if_requested()
                if this_run.reason_to_leave_out(name, done) is None:
                    planned = this_run.planned(name, seed, done)
                    if not (planned.cached or foreseen):
                        plan(recipe, out, this_run)
                        foreseen = True
                    done[name] = planned.artifact or this_run.accompany(planned, done)
                    if not planned.cached and point.recipe.stages[name].makes == "architecture":
                        _planned(point, seed, this_run, done)


def _sweep(recipe: Recipe | Sweep) -> Sweep:
    return Sweep.of(recipe) if isinstance(recipe, Recipe) else recipe


def _visits(
    sweep: Sweep, out: Path, listen: StageListener | None = None, before: RecipeRun | None = None
) -> Iterator[tuple[Point, int, RecipeRun]]:
    """Every point with every seed, in the order of work."""
    for point in sweep.points:
        engine_of(point.recipe)  # what this machine has not is told before anything runs
    for point in sweep.points:
        before = this_run = RecipeRun(point.recipe, out, before, in_sweep=len(sweep.points) > 1, listen=listen)
        for seed in point.recipe.seeds:
            yield point, seed, this_run
