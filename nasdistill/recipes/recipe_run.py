"""One recipe in one folder: what is planned for each of its stages, and its artifact, found again or made."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasdistill.artifacts import Artifact, open_artifact, publish
from nasdistill.component import Component, Facts, caveats_in, classes_in, idle_options
from nasdistill.data.base import DataSet
from nasdistill.errors import Interrupted, ProcessLost, SpecError, UserError, found_at
from nasdistill.interrupts import leave_if_requested
from nasdistill.models.base import SPEC, WEIGHTS, NetworkSpec, load_spec
from nasdistill.recipes.blame import blaming_plugins, checked
from nasdistill.recipes.cost import Meter
from nasdistill.recipes.graph import is_artifact
from nasdistill.recipes.loading import Recipe
from nasdistill.recipes.lock import stage_lock
from nasdistill.recipes.provenance import (
    classes_of,
    device_in_words,
    engine_of,
    git_commit,
    key_of,
    versions,
)
from nasdistill.stages import Context, Stage
from nasdistill.stages.base import Foreseen, Outcome, Place, Shared, in_words, path_of, references_in
from nasdistill.stages.networks import untrained
from nasdistill.training.processes import world_size
from nasdistill.training.records import Records
from nasdistill.versions import origins, version

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
IN_WORK = ".in-work"
"""In a payload from its beginning to its end: one that was removed meanwhile, and written on, lacks it."""

StageListener = Callable[[str, int, Mapping[str, float], int], None]
"""Is called with a stage's name, its seed, numbers by name, and the step that they are of."""

# Numbers that differ from one machine to the next count as cost, so that metrics stay comparable bit for bit.
COSTS = ("samples_per_second", "evaluation_share", "latency_ms", "export_latency_ms")


@dataclass(frozen=True)
class PlannedStage:
    """What would happen to a stage.

    Attributes:
        inputs: config field to the stage or artifact folder that it reads.
        identity: equal where the same artifact will be made; the key where there is one.
        key: None as long as an input is yet to be made.
        artifact: the finished artifact, if there is one.
        network: what is known of the network that it will make.
        sure: False where it may yet be left out.
        caveats: what to know before it runs, see `Component.caveat` and `Context.caveats`.
    """

    name: str
    uses: str
    seed: int
    inputs: Mapping[str, str]
    identity: str
    key: str | None
    artifact: Artifact | None
    point: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    network: Foreseen = None
    sure: bool = True
    caveats: tuple[str, ...] = ()

    @property
    def cached(self) -> bool:
        return self.artifact is not None


Made = Mapping[str, Artifact | PlannedStage]
"""By stage, what was made, and of what is yet to be made the plan."""


class RecipeRun:
    """One recipe in one folder.

    Args:
        before: the point before this one, whose data and engine stay in memory if this one has the same.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        before: RecipeRun | None = None,
        in_sweep: bool = False,
        listen: StageListener | None = None,
    ) -> None:
        self.listen = listen
        self.recipe = recipe
        self.out = out
        self.in_sweep = in_sweep
        self.dataset: DataSet = recipe.settings.data
        self.engine = engine_of(recipe)
        self.shared = Shared()
        self._fingerprint: str | None = None
        if before is not None:
            same_data = before.dataset.spec() == self.dataset.spec()
            same_engine = before.engine == self.engine
            self._fingerprint = before._fingerprint if same_data else None
            self.shared = before.shared.kept(same_data, same_engine)

    def data_identity(self) -> dict[str, Any]:
        """The data set's options, bytes and code, without where they lie."""
        if self._fingerprint is None:
            try:
                self._fingerprint = self.dataset.fingerprint()
            except SpecError as error:
                raise self.recipe.source.error(("data", *error.path), error.problem) from None
        options = {name: value for name, value in self.dataset.spec().items() if name not in self.dataset.access}
        return {**options, "fingerprint": self._fingerprint, "code": version(classes_in(self.dataset))}

    def inputs(self, stage: Stage, done: Made) -> dict[Place, Artifact | PlannedStage]:
        """Per reference field that names one: the artifact, or the stage that is yet to make it."""
        found: dict[Place, Artifact | PlannedStage] = {}
        for field, _reference, value in references_in(stage):
            if not isinstance(value, str):
                continue
            if value in self.recipe.stages:
                if value in done:
                    found[field] = done[value]
            elif is_artifact(value):
                found[field] = open_artifact(Path(value))
        return found

    def reason_to_leave_out(self, name: str, done: Made) -> str | None:
        """Why a stage is not run though all before it are done, or None; nobody knows while an input is to be made.

        Args:
            done: what was left out is not among them.
        """
        stage = self.recipe.stages[name]
        inputs = self.inputs(stage, done)
        there = {path_of(place)[0] for place in inputs}
        for place, reference, value in references_in(stage):
            if isinstance(value, str) and value in self.recipe.stages and value not in done:
                field = str(path_of(place)[0])
                if not reference.if_made:
                    return f"{value!r}, which it reads, was left out"
                if field not in there and type(stage).model_fields[field].is_required():
                    return f"all {field} that it reads were left out"
        artifacts = {field: found for field, found in inputs.items() if isinstance(found, Artifact)}
        try:
            return stage.reason_to_leave_out(artifacts) if len(artifacts) == len(inputs) else None
        except SpecError as error:
            raise self.recipe.error(name, error) from None

    def planned(self, name: str, seed: int, done: Made) -> PlannedStage:
        stage = self.recipe.stages[name]
        found = self.inputs(stage, done)
        inputs = {field: each.identity if isinstance(each, PlannedStage) else each for field, each in found.items()}
        shown = {in_words(field): str(value) for field, _reference, value in references_in(stage) if field in inputs}
        data = self.data_identity() if stage.reads_data else None
        identity = key_of(stage, inputs, data, self.engine, seed)
        if any(isinstance(each, PlannedStage) for each in found.values()):
            return PlannedStage(name, stage.registered_name, seed, shown, identity, None, None)
        return PlannedStage(name, stage.registered_name, seed, shown, identity, identity, self.finished(identity))

    def foreseen(self, planned: PlannedStage, done: Made) -> PlannedStage:
        """With what is known of its network; checked, as far as can be before anything runs.

        Raises:
            RecipeError: the stage refuses what it would read.
        """
        if planned.cached:
            return planned
        name = planned.name
        stage = self.recipe.stages[name]
        planned = dataclasses.replace(planned, caveats=caveats_in(stage))
        inputs = self.inputs(stage, done)
        conditional = any(reference.condition for _field, reference, _value in references_in(stage))
        if any(conditional or not each.sure for each in inputs.values() if isinstance(each, PlannedStage)):
            return dataclasses.replace(planned, sure=False)
        # What the images look like does not depend on the split, so that one is made for all seeds.
        first = dataclasses.replace(planned, seed=self.recipe.seeds[0])
        try:
            specs = {field: _known_of(field, each) for field, each in inputs.items()}
            context = self.context(first, self.work(first))
            with blaming_plugins(name, stage):
                network = stage.foresee(specs, context)
        except SpecError as error:
            raise self.recipe.error(name, error) from None
        caveats = (*planned.caveats, *context.caveats, *self._idle_options(stage, network))
        return dataclasses.replace(planned, network=network, caveats=caveats)

    def _idle_options(self, stage: Stage, network: Foreseen) -> Iterator[str]:
        """What stage and data set say of options without effect, as far as the images and the network are known."""
        spec = network if isinstance(network, NetworkSpec) else None
        if stage.reads_data and self.shared.split is not None and self.shared.images is not None:
            from nasdistill.data.preparation import facts_of

            facts = facts_of(self.shared.split[1], self.shared.images)
            yield from idle_options(self.dataset, facts, "data")
        elif spec is not None:
            facts = Facts(spec.classes, images=self.dataset.has_images)
        else:
            return
        if spec is not None:
            from nasdistill.models.foresight import has_auxiliary_head

            facts = dataclasses.replace(facts, auxiliary=lambda: has_auxiliary_head(spec.model_dump_json()))
        yield from idle_options(stage, facts)

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

    def artifacts(self, stage: Stage, done: Mapping[str, Artifact]) -> dict[Place, Artifact]:
        """What a stage reads, once all of it is done."""
        return {field: found for field, found in self.inputs(stage, done).items() if isinstance(found, Artifact)}

    def context(self, planned: PlannedStage, payload: Path) -> Context:
        name = planned.name
        stage = self.recipe.stages[name]
        curves = f"{name}-seed-{planned.seed}" if len(self.recipe.seeds) > 1 else name
        if self.in_sweep:
            curves += f"-{planned.identity[:6]}"
        return Context(
            stage=name,
            folder=payload,
            scratch=self.work(planned),
            records=Records(
                self.out / "tensorboard" / curves,
                name,
                listen=None if self.listen is None else functools.partial(self.listen, name, planned.seed),
                loggers=self.recipe.settings.loggers,
                config=self.config(planned),
            ),
            seed=planned.seed,
            replicate=stage.replicate_number(),
            dataset=self.dataset,
            engine_settings=self.recipe.settings.engine,
            checkpoint_seconds=self.recipe.settings.checkpoint_seconds,
            cache=self.out / "cache",
            data_identity=self.data_identity() if stage.reads_data else {},
            shared=self.shared,
        )

    def config(self, planned: PlannedStage) -> dict[str, Any]:
        """What loggers are told of a stage."""
        stage = self.recipe.stages[planned.name]
        return {
            "recipe": self.recipe.settings.name,
            "stage": planned.name,
            "uses": planned.uses,
            "seed": planned.seed,
            "options": stage.model_dump(mode="json"),
            "data": self.dataset.spec() if stage.reads_data else None,
            "engine": self.engine,
            "commit": git_commit(),
            "key": planned.key,
        }

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
            time.sleep(POLL_SECONDS)
        leave_if_requested()
        raise ProcessLost(f"the first process left without publishing the stage {planned.name!r}")

    def execute(self, planned: PlannedStage, done: Mapping[str, Artifact]) -> Artifact:
        """Run a stage, from its last checkpoint if it was killed before, and publish its artifact."""
        if planned.key is None:
            raise RuntimeError(f"stage {planned.name!r} has no key: its inputs are not done")
        with stage_lock(self.out / "work", planned.key, planned.name):
            # another run that shares this folder's artifacts may have made it meanwhile
            return self.finished(planned.key) or self._execute(planned, planned.key, done)

    def _execute(self, planned: PlannedStage, key: str, done: Mapping[str, Artifact]) -> Artifact:
        name, seed = planned.name, planned.seed
        stage = self.recipe.stages[name]
        inputs = self.artifacts(stage, done)
        work = self.work(planned)
        payload = work / "payload"
        shutil.rmtree(payload, ignore_errors=True)  # half a payload of a killed run; its checkpoints lie beside it
        payload.mkdir(parents=True)
        whole = payload / IN_WORK
        whole.touch()
        context = self.context(planned, payload)
        log.info("%s: %s (seed %d)", name, planned.uses, seed)
        meter = Meter(work / "attempts.json")
        with closing(context.records):
            try:
                with blaming_plugins(name, stage):
                    outcome = checked(stage.run(inputs, context), name, stage)
            except Interrupted as stop:
                raise Interrupted(stop.signal_number, f"stage {name!r}, seed {seed}") from None
            except SpecError as error:
                raise self.recipe.error(name, error) from None
            if not whole.is_file():
                raise UserError(
                    f"{payload} was removed while the stage {name!r} ran, and with it what it had written; "
                    "the same command runs this stage again"
                )
            whole.unlink()
            artifact = self._publish(planned, key, inputs, payload, outcome, meter.read())
            context.records.artifact(artifact)
        shutil.rmtree(work)
        return artifact

    def _publish(
        self,
        planned: PlannedStage,
        key: str,
        inputs: Mapping[Place, Artifact],
        payload: Path,
        outcome: Outcome,
        cost: Mapping[str, Any],
    ) -> Artifact:
        stage = self.recipe.stages[planned.name]
        return publish(
            payload,
            self.out / "artifacts" / f"{planned.name}-{key[:12]}",
            kind=stage.makes,
            stage=planned.name,
            uses=planned.uses,
            key=key,
            config=stage.model_dump(mode="json"),
            inputs={in_words(field): found.content for field, found in inputs.items()},
            seed=planned.seed,
            metrics={name: value for name, value in outcome.metrics.items() if name not in COSTS},
            cost={**cost, **{name: value for name, value in outcome.metrics.items() if name in COSTS}},
            provenance={
                "versions": versions(),
                "git": git_commit(),
                "device": device_in_words(self.recipe.settings.engine),
                "engine": self.engine,
                "processes": world_size(),
                "data": self.data_identity() if stage.reads_data else None,
                "plugins": origins([*classes_of(stage, inputs), *classes_in(self.dataset), *_model_in(payload)]),
            },
        )


def _known_of(field: Place, found: Artifact | PlannedStage) -> Foreseen:
    """What is known of the network that a field reads."""
    if isinstance(found, PlannedStage):
        return found.network
    with found_at(*path_of(field)):
        spec = load_spec(found.folder) if (found.folder / SPEC).is_file() else None
    return spec if spec is None or (found.folder / WEIGHTS).is_file() else untrained(spec)


def _model_in(payload: Path) -> list[type[Component]]:
    """The classes in a network that a stage wrote; of what nobody can read nothing is known."""
    try:
        return list(classes_in(load_spec(payload)))
    except UserError:
        return []
