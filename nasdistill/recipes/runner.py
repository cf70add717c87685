"""Running a recipe: each stage once, its artifact found again by its key, a killed one continued."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nasdistill.artifacts import MANIFEST, Artifact, open_artifact, publish
from nasdistill.data.base import DataSet
from nasdistill.errors import Interrupted, SpecError, UserError
from nasdistill.interrupts import leave_if_requested, polite_stops
from nasdistill.recipes.cost import Meter
from nasdistill.recipes.graph import order
from nasdistill.recipes.loading import Recipe
from nasdistill.recipes.lock import run_lock
from nasdistill.recipes.provenance import (
    device_in_words,
    git_commit,
    key_of,
    plugin_versions,
    resolved_config,
    versions,
)
from nasdistill.report.page import write_report
from nasdistill.report.records import Row, RunRecord
from nasdistill.report.results import load_run, save_run
from nasdistill.stages import Context, Stage
from nasdistill.stages.base import references
from nasdistill.storage import remove_leftovers, write_text
from nasdistill.training.engine import is_first_process, resolve

log = logging.getLogger(__name__)

REPORT = "report.html"
SECONDS_BETWEEN_LOOKS = 0.2

# Numbers that differ from one machine to the next count as cost, so that metrics stay comparable bit for bit.
COSTS = ("samples_per_second", "latency_ms")
# How data reach the memory is no part of what they are.
_HOW_DATA_ARE_READ = {"root", "download", "workers", "memory_mb"}


@dataclass(frozen=True)
class PlannedStage:
    """What would happen to a stage.

    Attributes:
        inputs: config field to the stage or artifact folder that it reads.
        key: None as long as an input is yet to be made.
        artifact: the finished artifact, if there is one.
    """

    name: str
    uses: str
    seed: int
    inputs: Mapping[str, str]
    key: str | None
    artifact: Artifact | None

    @property
    def cached(self) -> bool:
        return self.artifact is not None


def plan(recipe: Recipe, out: Path) -> list[PlannedStage]:
    """What `run` would do, stage by stage, without doing it."""
    return [planned for seed in recipe.seeds for planned in _plan_seed(_Run(recipe, out), seed)]


def run(recipe: Recipe, out: Path, command: str) -> RunRecord:
    """Run every stage that is not done yet, and write `recipe.yaml`, `results.json` and `report.html` into `out`.

    Args:
        command: what the user typed, for the report.

    Raises:
        UserError: `out` is in use, or something a stage was given is wrong.
        Interrupted: a signal asked to stop; the same call goes on from there.
    """
    if not is_first_process():
        follow(recipe, out)
        sys.exit()
    started = time.monotonic()
    began = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with run_lock(out), polite_stops():
        for folder in (out, out / "artifacts"):
            remove_leftovers(folder)
        text = recipe.text()
        write_text(out / "recipe.yaml", text)
        this_run = _Run(recipe, out)
        rows: list[Row] = []
        for seed in recipe.seeds:
            done: dict[str, Artifact] = {}
            for name in order(recipe.stages):
                leave_if_requested()
                planned = this_run.planned(name, seed, done)
                if planned.cached:
                    shutil.rmtree(this_run.work(planned), ignore_errors=True)  # killed right after publishing
                done[name] = planned.artifact or this_run.execute(planned, done)
                rows.append(replace(Row.of(done[name], planned.cached), stage=name))
        record = RunRecord(
            name=recipe.settings.name,
            recipe=text,
            command=command,
            seeds=recipe.seeds,
            rows=tuple(rows),
            versions=versions(),
            device=device_in_words(recipe.settings.engine),
            started=began,
            seconds=time.monotonic() - started,
        )
        link_stages(record, out)
        shown = _shown_already(record, out)
        save_run(record, out)
        if not shown:
            write_report(record, out / REPORT)
    return record


def _shown_already(record: RunRecord, out: Path) -> bool:
    """Whether the page in `out` shows these very results; drawing it again would take longer than finding them."""
    try:
        before = load_run(out)
    except UserError:
        return False

    def shown(run: RunRecord) -> list[Any]:
        return [run.recipe, run.versions, [(row.stage, row.seed, row.folder) for row in run.rows]]

    return (out / REPORT).is_file() and all(row.cached for row in record.rows) and shown(before) == shown(record)


def link_stages(record: RunRecord, out: Path) -> None:
    """Give each artifact of a run a name that can be typed: `stages/<stage>`, with the seed if there are several."""
    names = out / "stages"
    names.mkdir(exist_ok=True)
    for row in record.rows:
        if row.folder is not None:
            name = row.stage if len(record.seeds) == 1 else f"{row.stage}-seed-{row.seed}"
            incoming = names / f".{name}.partial"
            incoming.unlink(missing_ok=True)
            incoming.symlink_to(os.path.relpath(row.folder, names), target_is_directory=True)
            os.replace(incoming, names / name)


def follow(recipe: Recipe, out: Path) -> None:
    """What all but the first process of a run on several devices do: compute their share, leave the folder alone."""
    with polite_stops():
        this_run = _Run(recipe, out)
        for seed in recipe.seeds:
            done: dict[str, Artifact] = {}
            for name in order(recipe.stages):
                leave_if_requested()
                planned = this_run.planned(name, seed, done)
                done[name] = planned.artifact or this_run.accompany(planned, done)


def _plan_seed(this_run: _Run, seed: int) -> Iterator[PlannedStage]:
    done: dict[str, Artifact] = {}
    for name in order(this_run.recipe.stages):
        planned = this_run.planned(name, seed, done)
        if planned.artifact is not None:
            done[name] = planned.artifact
        yield planned


class _Run:
    """One recipe in one folder."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe = recipe
        self.out = out
        self.shared: dict[Any, Any] = {}
        self.dataset: DataSet = recipe.settings.data
        try:
            accelerator, precision = resolve(recipe.settings.engine)
        except SpecError as error:
            raise recipe.source.error(("engine", *error.path), error.problem) from None
        settings = recipe.settings.engine.model_dump(mode="json")
        self.engine = {**settings, "accelerator": accelerator, "precision": precision}
        self._fingerprint: str | None = None

    def data_identity(self) -> dict[str, Any]:
        """The data set's options and bytes, without where they lie."""
        if self._fingerprint is None:
            self._fingerprint = self.dataset.fingerprint()
        spec = self.dataset.spec()
        options = {name: value for name, value in spec.items() if name not in _HOW_DATA_ARE_READ}
        return {**options, "fingerprint": self._fingerprint, "plugins": plugin_versions(self.dataset)}

    def inputs(self, stage: Stage, done: Mapping[str, Artifact]) -> dict[str, str | Artifact]:
        """Per reference field that names one: the artifact, or the name of a stage that is yet to run."""
        found: dict[str, str | Artifact] = {}
        for field in references(type(stage)):
            value = getattr(stage, field)
            if not isinstance(value, str):
                continue
            if value in self.recipe.stages:
                found[field] = done.get(value, value)
            elif (Path(value) / MANIFEST).is_file():
                found[field] = open_artifact(Path(value))
        return found

    def planned(self, name: str, seed: int, done: Mapping[str, Artifact]) -> PlannedStage:
        stage = self.recipe.stages[name]
        inputs = self.inputs(stage, done)
        shown = {field: str(getattr(stage, field)) for field in inputs}
        if any(isinstance(artifact, str) for artifact in inputs.values()):
            return PlannedStage(name, stage.registered_name, seed, shown, None, None)
        contents = {field: found.content for field, found in inputs.items() if isinstance(found, Artifact)}
        data = self.data_identity() if stage.reads_data else None
        key = key_of(stage, contents, data, self.engine, seed)
        return PlannedStage(name, stage.registered_name, seed, shown, key, self.finished(key))

    def finished(self, key: str) -> Artifact | None:
        """The artifact with this key, under whatever name, if every byte of it is as written."""
        for folder in sorted((self.out / "artifacts").glob(f"*-{key[:12]}")):
            try:
                artifact = open_artifact(folder)
            except UserError as error:
                log.warning("%s; this stage runs again", error)
                continue
            if artifact.manifest.key == key:
                return artifact
        return None

    def work(self, planned: PlannedStage) -> Path:
        """Where a stage that is not finished keeps its checkpoints."""
        return self.out / "work" / f"{planned.name}-{planned.key and planned.key[:12]}"

    def artifacts(self, stage: Stage, done: Mapping[str, Artifact]) -> dict[str, Artifact]:
        """What a stage reads, once all of it is done."""
        return {field: found for field, found in self.inputs(stage, done).items() if isinstance(found, Artifact)}

    def context(self, planned: PlannedStage, payload: Path) -> Context:
        name = planned.name
        return Context(
            stage=name,
            folder=payload,
            scratch=self.work(planned),
            tensorboard=self.out
            / "tensorboard"
            / (f"{name}-seed-{planned.seed}" if len(self.recipe.seeds) > 1 else name),
            seed=planned.seed,
            dataset=self.dataset,
            engine_settings=self.recipe.settings.engine,
            checkpoint_seconds=self.recipe.settings.checkpoint_seconds,
            shared=self.shared,
        )

    def accompany(self, planned: PlannedStage, done: Mapping[str, Artifact]) -> Artifact:
        """Compute a stage along with the first process, which publishes it."""
        stage = self.recipe.stages[planned.name]
        with tempfile.TemporaryDirectory() as payload:
            stage.run(self.artifacts(stage, done), self.context(planned, Path(payload)))
        parent = os.getppid()
        while os.getppid() == parent and planned.key is not None:
            artifact = self.finished(planned.key)
            if artifact is not None:
                return artifact
            leave_if_requested()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        raise UserError(f"the first process left without publishing the stage {planned.name!r}")

    def execute(self, planned: PlannedStage, done: Mapping[str, Artifact]) -> Artifact:
        """Run a stage, from its last checkpoint if it was killed before, and publish its artifact."""
        name, seed, key = planned.name, planned.seed, planned.key
        if key is None:
            raise RuntimeError(f"stage {name!r} has no key: its inputs are not done")
        stage = self.recipe.stages[name]
        inputs = self.artifacts(stage, done)
        work = self.work(planned)
        payload = work / "payload"
        shutil.rmtree(payload, ignore_errors=True)  # half a payload of a killed run; its checkpoints lie beside it
        payload.mkdir(parents=True)
        context = self.context(planned, payload)
        log.info("%s: %s (seed %d)", name, planned.uses, seed)
        meter = Meter(work / "attempts.json")
        try:
            outcome = stage.run(inputs, context)
        except Interrupted as stop:
            raise Interrupted(stop.signal_number, f"stage {name!r}, seed {seed}") from None
        except SpecError as error:
            raise self.recipe.error(name, error) from None
        finally:
            context.records.close()
        metrics = {name: value for name, value in outcome.metrics.items() if name not in COSTS}
        costs = {name: value for name, value in outcome.metrics.items() if name in COSTS}
        artifact = publish(
            payload,
            self.out / "artifacts" / f"{name}-{key[:12]}",
            kind=stage.makes,
            stage=name,
            uses=planned.uses,
            key=key,
            config=resolved_config(stage),
            inputs={field: found.content for field, found in inputs.items()},
            seed=seed,
            metrics=metrics,
            cost={**meter.read(), **costs},
            provenance={
                "versions": versions(),
                "git": git_commit(),
                "device": device_in_words(self.recipe.settings.engine),
                "engine": self.engine,
                "data": self.data_identity() if stage.reads_data else None,
                "plugins": plugin_versions(stage, self.dataset),
            },
        )
        shutil.rmtree(work)
        return artifact
