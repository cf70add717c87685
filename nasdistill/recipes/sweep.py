"""Sweeps: a recipe at every point of a grid, where stages that a swept value does not reach are shared."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nasdistill.errors import SpecError, unknown
from nasdistill.recipes.loading import Recipe, load_recipe, read_recipe
from nasdistill.recipes.overrides import each_path, replaced
from nasdistill.recipes.schema import Axes, Axis
from nasdistill.recipes.source import RecipeError, parse
from nasdistill.recipes.trust import Trust, refuse
from nasdistill.report.points import value_in_words
from nasdistill.report.records import Row
from nasdistill.validation import build

Made = tuple[str, int, Mapping[str, Any], Any]
"""Stage, seed, point, and something that is equal where the same artifact is made."""


@dataclass(frozen=True)
class Point:
    """The recipe with one combination of the swept values.

    Attributes:
        values: by key; of an axis of the recipe the value's name.
        arguments: of `nasdistill run`, which make it run this point alone.
    """

    values: Mapping[str, Any]
    recipe: Recipe
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """A recipe at every point of a grid; without swept keys it has one point.

    Attributes:
        grid: the values of each swept key, and their names of each axis of the recipe.
        points: every combination of them, the last key changing fastest.
    """

    grid: Mapping[str, list[Any]]
    points: tuple[Point, ...]

    @classmethod
    def of(cls, recipe: Recipe) -> Sweep:
        """A recipe as it is."""
        return cls({}, (Point({}, recipe),))

    @property
    def recipe(self) -> Recipe:
        """That of the first point: what no swept key touches is the same in all."""
        return self.points[0].recipe


def load_sweep(
    name: str,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    swept: Iterable[str] = (),
    trust: Trust = refuse,
    only: Iterable[str] = (),
) -> Sweep:
    """Read and check a recipe at every point of a grid; see `load_recipe`.

    Args:
        swept: keys with their values, e.g. `stages.teacher.epochs=10,20`, `stages.s.objectives=[kd],[kd, attention]`,
            or `stages.a,b.epochs=10,20` for stages that share each value.
        only: values of the recipe's own axes by name, or as the recipe would write them, e.g. `loss=kd,[kd, mine]`;
            of an axis that is not named all are taken.

    Raises:
        RecipeError: the grid or the recipe at one of its points is wrong.
    """
    axes, grid = axes_of(name, only), grid_of(swept)
    for key in axes.keys() & grid.keys():
        raise RecipeError(
            f"--sweep {key}=...: {key!r} is an axis of the recipe's own sweep; choose with --only {key}=..."
        )
    _refuse_replaced(axes, grid, overrides)
    grid = {**{axis: list(named) for axis, named in axes.items()}, **grid}
    points = []
    for chosen in itertools.product(*grid.values()):
        point = dict(zip(grid, chosen, strict=True))
        settings: dict[str, Any] = {}
        for key, value in point.items():
            settings |= axes[key][value] if key in axes else {key: value}
        arguments = tuple(
            f"--only={key}={value}" if key in axes else f"{key}={json.dumps(value, ensure_ascii=False)}"
            for key, value in point.items()
        )
        by = "the recipe's sweep" if axes else "--sweep"
        try:
            recipe = load_recipe(name, overrides, plugins, settings, by, trust=trust)
        except RecipeError as error:
            raise _told_of_brackets(error, grid) from None
        points.append(Point(point, recipe, arguments))
    return Sweep(grid, tuple(points))


def _told_of_brackets(error: RecipeError, grid: Mapping[str, Sequence[Any]]) -> RecipeError:
    """With advice where a list was the one value of its key: its parts were meant, it seems."""
    for key, values in grid.items():
        if len(values) == 1 and isinstance(values[0], list) and str(error).startswith(f"--sweep {key}="):
            parts = ",".join(map(value_in_words, values[0]))
            return RecipeError(f"{error}; did you mean these one by one? Then leave out the brackets: {key}={parts}")
    return error


def _refuse_replaced(
    axes: Mapping[str, Mapping[str, Mapping[str, Any]]], grid: Mapping[str, Any], overrides: Iterable[str]
) -> None:
    """Refuse what a key that is set after it sets anew; overrides come first, then axes, then swept keys."""
    set_by = {key: axis for axis, named in axes.items() for key in next(iter(named.values()))}
    for text in overrides:
        key = text.partition("=")[0]
        for by in grid:
            if replaced(key, by):
                around = "this key" if replaced(by, key) else f"{by}, around it,"
                raise RecipeError(f"override {text!r}: {around} is swept as well; leave one of them out")
        for by, axis in set_by.items():
            if replaced(key, by):
                around = "this key" if replaced(by, key) else f"{by}, around it"
                raise RecipeError(f"override {text!r}: the recipe's sweep sets {around}; choose with --only {axis}=...")
    for at, by in enumerate(grid):
        for key, axis in set_by.items():
            if replaced(key, by):
                inside = "this key" if replaced(by, key) else f"{key}, inside it"
                raise RecipeError(f"--sweep {by}=...: the recipe's sweep sets {inside}; choose with --only {axis}=...")
        for key in list(grid)[:at]:
            if replaced(key, by):
                raise RecipeError(f"--sweep {key}=...: it can be swept only after {by}, which replaces it")


def axes_of(name: str, only: Iterable[str] = ()) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each axis of a recipe's `sweep` the settings by the names of its values.

    Args:
        only: see `load_sweep`; a value that has no name goes by its own text.

    Raises:
        RecipeError: the section is wrong, or `only` names what is not there.
    """
    axes = _axes_in(name)
    found = {name: {word: axis.settings(value) for word, value in axis.values.items()} for name, axis in axes.items()}
    chosen: set[str] = set()
    for text in only:
        name, equals, listed = text.partition("=")
        shown = f"--only {text!r}"
        if not equals or not listed.strip():
            raise RecipeError(f"{shown}: write it as name=value,value,...")
        if name not in axes:
            raise RecipeError(f"{shown}: " + (unknown("axis", name, axes) if axes else "the recipe has no `sweep`"))
        if name in chosen:
            raise RecipeError(f"{shown}: the axis {name!r} is chosen from twice; give all its values at once")
        chosen.add(name)
        axis, found[name] = axes[name], {}
        for value in parse(f"[{listed}]", shown).data:
            word = value_in_words(value)
            if word not in axis.values and isinstance(value, str):
                raise RecipeError(f"{shown}: {unknown(name, word, axis.values)}")
            try:
                found[name][word] = axis.settings(axis.values.get(word, value))
            except SpecError as error:
                raise RecipeError(f"{shown}: {error.problem}") from None
    return found


def _axes_in(recipe: str) -> dict[str, Axis]:
    """The axes of a recipe's `sweep`, of which no two set the same."""
    source, _folder = read_recipe(recipe)
    written = source.data if isinstance(source.data, dict) else {}
    try:
        axes = build(Axes, {"sweep": written.get("sweep", {})}).sweep
    except SpecError as error:
        raise source.wrong(error) from None
    taken: dict[str, str] = {}
    for name, axis in axes.items():
        for number, key in enumerate(axis.keys):
            for path in each_path(key):
                for before, by in taken.items():
                    if replaced(before, path):
                        what = f"{path} is" if before == path else f"it replaces {before}, which is"
                        raise source.error(("sweep", name, "keys", number), f"{what} set by {by!r} as well")
                taken[path] = name
    return axes


def grid_of(swept: Iterable[str]) -> dict[str, list[Any]]:
    """The values by key of texts such as `stages.teacher.epochs=10,20`, each list read as YAML reads `[10,20]`.

    Raises:
        RecipeError: a key or a value stands twice, a list is empty or no YAML, or seeds are swept.
    """
    grid: dict[str, list[Any]] = {}
    paths: set[str] = set()
    for text in swept:
        shown = f"--sweep {text!r}"
        key, equals, listed = text.partition("=")
        if not equals or not key:
            raise RecipeError(f"{shown}: write it as key.path=value,value,...")
        if key in ("seed", "seeds"):
            raise RecipeError(f"{shown}: seeds are no part of a grid; with --seeds 0,1,2 every point runs with each")
        for path in each_path(key):
            if path in paths:
                raise RecipeError(f"{shown}: the key {path!r} is swept twice; give all its values at once")
            paths.add(path)
        values = parse(f"[{listed}]", shown).data
        if not values:
            raise RecipeError(f"{shown}: there are no values; write it as {key}=value,value,...")
        for value in values:
            if values.count(value) > 1:
                raise RecipeError(f"{shown}: the value {value_in_words(value)} stands here twice")
        grid[key] = values
    return grid


def joined(rows: Sequence[Row]) -> list[Row]:
    """Every stage once per artifact rather than per point, at those keys of its point that reach it."""
    return [
        replace(rows[at], point=point)
        for at, point in reached([(row.stage, row.seed, row.point, row.folder) for row in rows])
    ]


def reached(made: Sequence[Made]) -> list[tuple[int, Mapping[str, Any]]]:
    """Which of the stages of all points to show, and at which part of their points.

    A key does not reach a stage if, whatever the other keys and the seed are, what is made is the same at all of the
    key's values. In a grid of teachers and students, a teacher is so trained and shown once for all students.

    Returns:
        Positions in `made`, by seed and stage in order of first appearance, each with what is left of its point.
    """
    stages = list(dict.fromkeys(stage for stage, *_ in made))
    seeds = list(dict.fromkeys(seed for _, seed, *_ in made))
    parts = {stage: [entry for entry in made if entry[0] == stage] for stage in stages}
    keys = {
        stage: [key for key in entries[0][2] if not _same_at_all_values(entries, key)]
        for stage, entries in parts.items()
    }
    found: dict[tuple[str, int, str], tuple[int, Mapping[str, Any]]] = {}
    for at, (stage, seed, point, _) in enumerate(made):
        left = {key: point[key] for key in keys[stage]}
        found.setdefault((stage, seed, value_in_words(left)), (at, left))
    return sorted(found.values(), key=lambda place: (seeds.index(made[place[0]][1]), stages.index(made[place[0]][0])))


def _same_at_all_values(entries: Sequence[Made], key: str) -> bool:
    seen: dict[tuple[int, str], Any] = {}
    for _, seed, point, made in entries:
        others = value_in_words({other: value for other, value in point.items() if other != key})
        if seen.setdefault((seed, others), made) != made:
            return False
    return True
