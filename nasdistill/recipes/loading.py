"""From recipe text and overrides to a checked recipe: every mistake is found here, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nasdistill import resources
from nasdistill.artifacts import MANIFEST
from nasdistill.errors import SpecError, found_at, unknown
from nasdistill.paths import Written, located, settled, starting_at
from nasdistill.plugins import load_plugin
from nasdistill.recipes.graph import artifact_in, check_graph
from nasdistill.recipes.overrides import assign, each_path, override, set_up
from nasdistill.recipes.schema import RecipeFile
from nasdistill.recipes.source import Key, RecipeError, Source, dump, read_source
from nasdistill.recipes.trust import Code, Trust, load_trusted, refuse
from nasdistill.registry import build, registry
from nasdistill.report.points import value_in_words
from nasdistill.stages import STAGES, Stage
from nasdistill.stages.base import references


class CommandLine(Source):
    """A recipe that was typed as the options of a command."""

    def address(self, key: Key) -> str:
        if key == ("data", "root"):
            return "--data-root"
        path = key[3:] if key[:3] == ("stages", 0, "with") else key[1:] if key[:1] == ("engine",) else key
        if self.is_override(key):  # by --set, which says so before
            return ".".join(map(str, path))
        return "--" + ".".join([str(path[0]).replace("_", "-"), *map(str, path[1:])]) if path else ""


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Attributes:
        settings: everything but the stages.
        stages: typed config by name, in the order of the file; of a stage that stands for several, all of those.
        entries: the place in the file of the entry that each of `stages` comes from.
        source: the text's data after overrides, with lines for errors.
        unseen: the stages that may need what was passed over, or read one that does, by name with their kinds.
        passed_over: plug-ins that were not looked at, as nobody said yes to them; such a recipe cannot run.
    """

    settings: RecipeFile
    stages: Mapping[str, Stage]
    entries: Mapping[str, int]
    source: Source
    unseen: Mapping[str, str]
    passed_over: tuple[Code, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.settings.seeds or (self.settings.seed or 0,)

    @property
    def data(self) -> dict[str, Any]:
        """The recipe as it runs, overrides included, with absolute paths."""
        found: dict[str, Any] = settled(self.source.data)
        return found

    def text(self) -> str:
        return dump(self.data)

    def error(self, stage: str, wrong: SpecError) -> RecipeError:
        """The sentence for what showed to be wrong with a stage's config only when it ran."""
        return self.source.wrong(wrong, *_options_key(self.entries[stage]))


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of a built-in one.

    Raises:
        RecipeError: there is none; names those that come along.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in resources.recipes().glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    raise RecipeError(f"there is no recipe file {name!r}, and " + unknown("recipe", name, shipped))


def read_recipe(name: str) -> tuple[Source, Path]:
    """The text of a recipe, whose paths know where they start, and the folder of its file; see `find_recipe`."""
    path = find_recipe(name)
    source, folder = read_source(path), path.parent.resolve()
    # one that comes along lies inside the package
    source.data = starting_at(folder if path == Path(name) else Path.cwd(), source.data)
    return source, folder


def load_recipe(
    name: str | Source,
    overrides: Iterable[str] = (),
    plugins: Iterable[str] = (),
    swept: Mapping[str, Any] = MappingProxyType({}),
    by: str = "--sweep",
    tune: Mapping[str, Any] = MappingProxyType({}),
    trust: Trust = refuse,
) -> Recipe:
    """Read and check a recipe.

    Args:
        name: a file, the name of a built-in recipe, or text that was read already.
        overrides: `stages.teacher.epochs=20`, `stages.a,b.epochs=20`, `data.root=/images`, `seeds=[0,1]`.
        plugins: files or modules beside those that the recipe names, said yes to.
        swept: the values of one point of a sweep, set after the overrides.
        by: the option that swept them, for errors.
        tune: settings of an experiment beside or instead of those in the recipe's `tune`.
        trust: says whether plug-ins may run that the recipe's file names and nobody said yes to before.

    Raises:
        RecipeError: one sentence with file, line, key, what was allowed and what was probably meant.
    """
    source, folder = (name, None) if isinstance(name, Source) else read_recipe(name)
    source.data = starting_at(Path.cwd(), source.data)
    if not isinstance(source.data, dict):
        raise source.error((), "a recipe is a mapping with a name and stages")
    for plugin in plugins:
        load_plugin(plugin)
    about_plugins = [text for text in overrides if text.startswith("plugins")]
    for text in about_plugins:
        override(source, text, f"override {text!r}")
    passed_over = load_trusted(source, folder, plugins, trust)
    for text in overrides:
        if text not in about_plugins:
            override(source, text, f"override {text!r}")
    for name, setting in tune.items():
        set_up(source, name, setting)
    for key, value in swept.items():
        assign(source, key, value, f"{by} {key}={value_in_words(value)}")
    if any(key.startswith("plugins") for key in swept):
        passed_over = load_trusted(source, folder, plugins, trust)
    recipe = check_around(source, passed_over)
    _refuse_idle(recipe, overrides, swept, by)
    return recipe


def _refuse_idle(recipe: Recipe, overrides: Iterable[str], swept: Mapping[str, Any], by: str) -> None:
    """Refuse what was typed for a stage that an artifact takes the place of; arguments as of `load_recipe`.

    An axis of the recipe's own sweep may set it: beside such a stage it sets others.
    """
    typed = {f"override {text!r}": text.partition("=")[0] for text in overrides}
    typed |= {f"{by} {key}": key for key in swept if by.startswith("--")}
    left_out = {entry.name for entry in recipe.settings.stages if entry.artifact is not None}
    for shown, key in typed.items():
        for path in each_path(key):
            first, *parts = path.split(".")
            if first == "stages" and parts[1:] and parts[0] in left_out and parts[1] not in ("name", "artifact"):
                raise RecipeError(f"{shown}: {path} has no effect: an artifact takes the place of {parts[0]!r}")


def recipe_of_stage(
    uses: str,
    options: Mapping[str, Any],
    *,
    overrides: Iterable[str] = (),
    plugins: Iterable[str] = (),
    **settings: Any,
) -> Recipe:
    """The recipe that a command stands for: one stage, called as the command is.

    Args:
        uses: the kind of stage.
        options: of the stage, as plain data.
        overrides: of the stage's options, e.g. `optimizer.lr=0.1`, or of the data set's, e.g. `data.limit=100`.
        settings: of the recipe: `data`, `engine`, `seed`, `seeds`, ...; those that are None are left out.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    kind = STAGES.get(uses)
    name = kind.command or uses
    stage = {"name": name, "uses": uses, "with": dict(options)}
    data = {"name": name, "data": kind.default_data, **given, "stages": [stage]}
    source = CommandLine("the command line", starting_at(Path.cwd(), data))
    for plugin in plugins:
        load_plugin(plugin)
    for text in overrides:
        of_data = text.startswith("data.") and "data" not in kind.model_fields
        override(source, text if of_data else f"stages.{name}.{text}", f"--set {text!r}")
    return check(source)


def check(source: Source, around: Collection[Key] = ()) -> Recipe:
    """Turn plain data into a checked recipe; see `load_recipe`.

    Args:
        around: stages (`("stages", 0)`) and settings (`("data",)`) that nobody can judge here, and are left out.
    """
    try:
        settings = build(RecipeFile, {name: value for name, value in source.data.items() if (name,) not in around})
    except SpecError as error:
        raise source.wrong(error) from None
    if settings.seed is not None and settings.seeds is not None:
        raise source.error(("seeds",), "give either seed or seeds")
    written: dict[str, Stage] = {}
    stages: dict[str, Stage] = {}
    entries: dict[str, int] = {}
    unseen: dict[str, str] = {}
    made = {entry.name: entry.artifact for entry in settings.stages if entry.artifact is not None}
    never_made: dict[str, str] = {}
    for index, entry in enumerate(settings.stages):
        if entry.name in [each.name for each in settings.stages[:index]]:
            raise source.error(("stages", index, "name"), f"the stage name {entry.name!r} stands here twice")
        if entry.artifact is not None and not any(
            (Path(entry.artifact) / there).exists() for there in (MANIFEST, "stages")
        ):
            problem = f"{entry.artifact!r} is no artifact: it holds no {MANIFEST}"
            raise source.error(("stages", index, "artifact"), problem)
        if ("data",) in around or ("stages", index) in around:
            if entry.artifact is None:
                unseen[entry.name] = entry.uses
            continue
        try:
            kind = STAGES.get(entry.uses)
        except SpecError as error:
            raise source.wrong(error, "stages", index, "uses") from None
        if entry.artifact is not None:
            with suppress(SpecError):  # its options have no effect, so they may be anything
                never_made |= dict.fromkeys(build(kind, entry.options).parts(entry.name), entry.name)
            continue
        try:
            options = _with_folders(kind, entry.options, {*(each.name for each in settings.stages), *stages}, made)
            if settings.budget is not None and "budget" in kind.model_fields:
                options = {"budget": settings.budget, **options}
            written[entry.name] = build(kind, options)
            parts = written[entry.name].parts(entry.name)
            for part in parts.values():
                part.check_data(settings.data)
        except SpecError as error:
            raise source.wrong(error, *_options_key(index)) from None
        for name, part in parts.items():
            if name in stages or name in made:
                of = "" if name == entry.name else f", for one of the stages that {entry.name!r} stands for"
                raise source.error(("stages", index, "name"), f"the stage name {name!r} stands here twice{of}")
            stages[name], entries[name] = part, index
    keeps_budget = any("budget" in type(stage).model_fields for stage in written.values())
    if not stages and not unseen:
        raise source.error(("stages",), "nothing is left to run: an artifact takes the place of every stage")
    if settings.budget is not None and not keeps_budget and not unseen and not made:
        raise source.error(("budget",), "no stage here keeps a budget; `fit-size` and `search` do")
    check_graph(written, stages, never_made, lambda stage, wrong: source.wrong(wrong, *_options_key(entries[stage])))
    return Recipe(settings, stages, entries, source, unseen)


def check_around(source: Source, passed_over: tuple[Code, ...]) -> Recipe:
    """Check all of a recipe but for the stages that name what those plug-ins may bring, or read one that does."""
    around: set[Key] = set()
    while True:
        try:
            return replace(check(source, around), passed_over=passed_over)
        except RecipeError as error:
            if not (passed_over and error.unknown):
                raise
            around.add(error.unknown[: 2 if error.unknown[0] == "stages" else 1])


def _options_key(entry: int) -> Key:
    return ("stages", entry, "with")


def _with_folders(
    kind: type[Stage], options: Mapping[str, Any], stages: Container[str], made: Mapping[str, str]
) -> dict[str, Any]:
    """A stage's options, in which what names an artifact's folder says where it lies.

    Args:
        made: the artifacts of stages that are left out.
    """

    def is_folder(value: Any) -> bool:
        if isinstance(value, str) and value in made:
            return True
        if not isinstance(value, Written) or value in stages:
            return False
        if (value.start / value / MANIFEST).is_file():
            return True
        there = any(os.path.exists(place) for place in (value.start / value, value))
        return ("/" in value or there) and not registry("models").recognises(value)

    found = dict(options)
    for field, reference in references(kind).items():
        if field not in options:
            continue
        value, several = options[field], isinstance(options[field], list)
        with found_at(field):
            items = [
                str(artifact_in(located(made.get(each, each)), reference.kind)) if is_folder(each) else each
                for each in (value if several else [value])
            ]
        found[field] = items if several else items[0]
    return found
