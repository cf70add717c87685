"""The stage graph: who reads whom, checked before anything runs."""

from __future__ import annotations

import graphlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasdistill.artifacts import MANIFEST, fits, open_artifact
from nasdistill.errors import SpecError, UnknownName, UserError, unknown
from nasdistill.registry import registry
from nasdistill.stages.base import Reference, Stage, path_of, references_in

Problem = Callable[[str, SpecError], UserError]
"""Makes the error for a stage and what is wrong with its config."""


def read_by(stage: Stage, stages: Mapping[str, Stage]) -> list[str]:
    """The names of those of `stages` whose artifacts a stage reads."""
    return [value for _field, _reference, value in references_in(stage) if isinstance(value, str) and value in stages]


def order(stages: Mapping[str, Stage]) -> list[str]:
    """The stages so that each comes after those that it reads, otherwise as written.

    Raises:
        graphlib.CycleError: they read each other in a circle.
    """
    position = {name: index for index, name in enumerate(stages)}
    sorter = graphlib.TopologicalSorter({name: read_by(stage, stages) for name, stage in stages.items()})
    sorter.prepare()
    ready: list[str] = []
    found: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=position.__getitem__)
        found.append(ready.pop(0))
        sorter.done(found[-1])
    return found


def check_graph(
    written: Mapping[str, Stage], stages: Mapping[str, Stage], never_made: Mapping[str, str], problem: Problem
) -> None:
    """Find cycles, unknown stages and inputs of the wrong kind.

    Args:
        written: the stages of the recipe.
        stages: the stages that those stand for.
        never_made: what stages would make that an artifact takes the place of, with their names.

    Raises:
        UserError: what `problem` makes of the first finding.
    """
    for name, stage in [*written.items(), *stages.items()]:
        for field, reference, value in references_in(stage):
            _check_reference(name, path_of(field), reference, value, stages, never_made, problem)
    try:
        order(stages)
    except graphlib.CycleError as error:
        cycle: list[str] = error.args[1]  # its first stage stands at the end again
        field = next(field for field, _reference, value in references_in(stages[cycle[0]]) if value in cycle)
        circle = " -> ".join(cycle)
        raise problem(cycle[0], SpecError(f"stages read each other in a circle: {circle}", path_of(field))) from None


def _check_reference(
    name: str,
    path: tuple[str | int, ...],
    reference: Reference,
    value: Any,
    stages: Mapping[str, Stage],
    never_made: Mapping[str, str],
    problem: Problem,
) -> None:
    if isinstance(value, str) and value in stages:
        made = stages[value].makes
        if not fits(made, reference.kind):
            by = stages[value].registered_name
            raise problem(
                name,
                SpecError(f"{value!r} is {_a(by)} stage and makes {_a(made)}, but {_a(reference.kind)} is read", path),
            )
        return
    if isinstance(value, str) and value in never_made:
        by = never_made[value]
        raise problem(name, SpecError(f"{value!r} is never made: an artifact takes the place of {by!r}", path))
    if is_artifact(value):
        try:
            found = open_artifact(Path(value), verify=False).kind
        except UserError as error:
            raise problem(name, SpecError(str(error), path)) from None
        if not fits(found, reference.kind):
            wrong = f"the artifact {value!r} is {_a(found)}, but {_a(reference.kind)} is read"
            raise problem(name, SpecError(wrong, path))
        return
    models = registry("models")
    if reference.or_model:
        try:
            models.parse(value)
            return
        except SpecError as error:
            if not isinstance(value, str) or models.recognises(value):
                raise problem(name, error.at(*path)) from None
    elif models.recognises(value):
        wrong = f"{value!r} is a model, not yet a network: train it in a stage of its own"
        raise problem(name, SpecError(wrong, path))
    if Path(value).exists():
        why = "it is a file, not a folder" if Path(value).is_file() else f"it holds no {MANIFEST}"
        raise problem(name, SpecError(f"{value!r} is no artifact: {why}", path))
    what = "stage, artifact folder or model" if reference.or_model else "stage or artifact folder"
    known = [*stages, *(registry("models").names() if reference.or_model else []), *_artifacts_beside(str(value))]
    others = [other for other in known if other != name]
    raise problem(name, UnknownName(unknown(what, str(value), others), path))


def is_artifact(value: Any) -> bool:
    """Whether a reference in a recipe is the folder of an artifact; any other word may be a folder's name as well."""
    return isinstance(value, str) and os.path.isabs(value) and (Path(value) / MANIFEST).is_file()


def artifact_in(folder: Path, kind: str) -> Path:
    """The artifact that a folder stands for: itself, or the only one of that kind that a run in it made.

    Raises:
        UserError: there are several.
    """
    links = sorted((folder / "stages").glob(f"*/{MANIFEST}")) if not (folder / MANIFEST).is_file() else []
    made = [link.parent for link in links if open_artifact(link.parent, verify=False).kind == kind]
    if len(made) > 1:
        names = ", ".join(f"stages/{each.name}" for each in made)
        raise UserError(f"the run in {folder} made several artifacts of the kind {kind}; name one of {names}")
    return made[0].resolve() if made else folder


def _artifacts_beside(path: str) -> list[str]:
    """What else lies in the folder that a path leads into."""
    folder = Path(path).parent
    return [str(manifest.parent) for manifest in folder.glob(f"*/{MANIFEST}")] if "/" in path else []


def _a(kind: str) -> str:
    return kind if kind.endswith("s") else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
