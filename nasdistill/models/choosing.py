"""Which tensors of a file are the network's, where others lie beside them: an average, a teacher, metrics, a loss.

Pure functions of names and shapes. A tensor's name is the keys that lead to it, joined by dots. They refuse rather than
guess, and tell what the file holds and the option that picks from it.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import takewhile

from nasdistill.errors import UserError, nearest
from nasdistill.models.matching import Match, Shapes, full_name, in_words, match, module_of
from nasdistill.words import some

USUAL = ("state_dict", "model_state_dict", "model", "module", "network", "net", "weights", "params")
"""Keys under which programs keep the weights in a checkpoint; `ema` and others hold what they may keep beside them."""

_IGNORED_AT_MOST = 5


@dataclass(frozen=True)
class Wanted:
    """What was asked for of a file.

    Attributes:
        under: the keys, and first parts of names, that lead to the tensors; the first of them may be left out.
        prefix: what the names of the tensors begin with, in the dictionary that holds them.
        ignore: patterns (`*`, `?`, `[...]`) of the names of tensors to leave out.
    """

    under: str | None = None
    prefix: str | None = None
    ignore: tuple[str, ...] = ()


EVERYTHING = Wanted()


@dataclass(frozen=True)
class Choice:
    """The tensors that were taken.

    Attributes:
        match: by names of the file in full.
        left_out: the file's other tensors.
        others: places in the file whose tensors would have fitted as well.
    """

    match: Match
    left_out: Shapes
    others: tuple[str, ...]

    def lines(self) -> list[str]:
        """What to print: what matched, what was left out, and a line per tensor."""
        summary, *pairs = self.match.lines()
        left_out = [f"left out: {_contents(self.left_out)}"] if self.left_out else []
        fit = [f"{other} fits as well; --under {shlex.quote(other)} takes it" for other in self.others]
        return [summary, *left_out, *fit, *pairs]


@dataclass(frozen=True)
class _Group:
    """All tensors below a place of a file: by the name that they are matched by, their shapes."""

    place: str
    shapes: Shapes


def choose(theirs: Shapes, dicts: Mapping[str, str], ours: Shapes, in_order: bool, wanted: Wanted) -> Choice:
    """Find the tensors of a file that make up a network, and match them.

    What lies below one place of the file is taken as a whole. Where that leaves something else out, it is taken unasked
    only if little doubt is left: it lies under a usual key, its names are the network's, or what is left out is no
    layer.

    Args:
        theirs: the file's names in full and shapes, in its order.
        dicts: for each name, that of the dictionary which holds it.
        ours: the network's names and shapes, in its order.
        in_order: see `match`.

    Raises:
        UserError: nothing in the file fits, several things do, or it holds nothing of what was asked for; to follow the
            name of the file.
    """
    names = _names_wanted(theirs, dicts, wanted)
    held = {name: theirs[full] for name, full in names.items()}
    groups = list(_groups(held, at_least=max(1, _layers(ours).total())))
    fitting = _fitting(groups, ours, in_order)
    usual = [_below(key, held) for key in {*dicts.values()} if set(key.split(".")) <= set(USUAL)]
    taken = [(group, found) for group, found in fitting if group.shapes in usual or _is_plain(group, found, held, ours)]
    if len(taken) > 1:
        taken = [(group, found) for group, found in taken if group.shapes in usual]
    if len(taken) == 1:
        group, found = taken[0]
        pairs = tuple(replace(pair, theirs=names[pair.theirs]) for pair in found.pairs)
        used = {pair.theirs for pair in pairs}
        left_out = {name: shape for name, shape in theirs.items() if name not in used}
        others = tuple(other.place for other, _ in fitting if other is not group)
        return Choice(replace(found, pairs=pairs), left_out, others)
    if fitting:
        places = [group.place for group, _ in fitting]
        what = "several networks that fit" if len(places) > 1 else f"{places[0]}, which fits, among others"
        flags = " or ".join(f"--under {shlex.quote(place)}" for place in places)
        raise UserError(f"holds {what}: {_contents(held)}; choose with {flags}")
    raise UserError(f"does not fit: {_why_not(groups, ours, in_order)}")


def _fitting(groups: Sequence[_Group], ours: Shapes, in_order: bool) -> list[tuple[_Group, Match]]:
    """The groups that match the network, and how."""
    fitting = []
    for group in groups:
        if _layers(group.shapes) == _layers(ours):
            with suppress(UserError):
                fitting.append((group, match(group.shapes, ours, in_order)))
    return fitting


def _is_plain(group: _Group, found: Match, held: Shapes, ours: Shapes) -> bool:
    """Whether a group that fits is the network for certain, whatever else the file holds."""
    if found.how == "name" and len({module_of(name) for name in ours}) > 1:
        return True
    rest: dict[str, set[str]] = defaultdict(set)
    for name, shape in held.items():
        if name not in group.shapes:
            if len(shape) > 1:
                return False
            rest[module_of(name)].add(name.rpartition(".")[2])
    return not any({"weight", "bias"} <= module or "running_mean" in module for module in rest.values())


def _why_not(groups: Sequence[_Group], ours: Shapes, in_order: bool) -> str:
    """What keeps the group that is nearest to the network from matching it, what the file holds, and a way out."""
    layers = _layers(ours)
    closest = max(groups, key=lambda group: ((_layers(group.shapes) & layers).total(), -len(group.shapes)))
    try:
        match(closest.shapes, ours, in_order)
    except UserError as error:
        problem = str(error)
    everything = groups[0].shapes
    told = f"; it holds {_contents(everything)}" if len(everything) > len(ours) else ""
    flags = _surplus(closest, ours, in_order) or _prefixes(everything, ours, in_order)
    return f"{problem}{told}" + (f"; it would fit with {flags}" if flags else "")


def _names_wanted(theirs: Shapes, dicts: Mapping[str, str], wanted: Wanted) -> dict[str, str]:
    """The names that were asked for, without the prefix; to names in full."""
    names = {full: full for full in theirs}
    if wanted.under is not None:
        names = {full: full for full in _below(_place_of(wanted.under, theirs), theirs)}
    if wanted.prefix is not None:
        inside = {full: full[len(dicts[full]) + 1 :] if dicts[full] else full for full in names}
        stripped = {
            full_name(dicts[full], name.removeprefix(wanted.prefix).removeprefix(".")): full
            for full, name in inside.items()
            if name.startswith(wanted.prefix)
        }
        if not stripped:
            raise UserError(f"has no tensor whose name begins with {wanted.prefix!r}: it holds {_contents(theirs)}")
        names = stripped
    for pattern in wanted.ignore:
        kept = {name: full for name, full in names.items() if not _is_called(pattern, name, full, dicts[full], wanted)}
        if len(kept) == len(names):
            raise UserError(f"has no tensor whose name fits {pattern!r}: it holds {_contents(theirs)}")
        names = kept
    if not names:
        raise UserError("holds nothing beside what is to be ignored")
    return names


def _is_called(pattern: str, name: str, full: str, holder: str, wanted: Wanted) -> bool:
    """Whether a pattern fits a tensor's name: in full, in its dictionary, below `under`, or without the prefix."""
    below = f".{full}".partition(f".{(wanted.under or '').strip('.')}.")[2]
    spellings = (full, name, *(each.removeprefix(f"{holder}.") for each in (full, name)), below)
    return any(fnmatchcase(spelling, pattern) for spelling in spellings)


def _place_of(under: str, theirs: Shapes) -> str:
    """The one place in the file that is called `under`, in full or by the end of its name.

    Raises:
        UserError: there is none, or more than one.
    """
    key = under.strip(".")
    places: dict[str, None] = {}
    for name in theirs:
        before, found, _ = f".{name}.".partition(f".{key}.")
        if found:
            places[f"{before}.{key}".strip(".")] = None
    if key in places:
        return key
    if len(places) > 1:
        raise UserError(f"holds {under!r} in several places; choose one: {some(list(places))}")
    if places:
        return next(iter(places))
    known = nearest(key, (part for name in theirs for part in name.split(".")[:-1]))
    hint = f" (did you mean {known!r}?)" if known else ""
    raise UserError(f"holds nothing under {under!r}{hint}: it holds {_contents(theirs)}")


def _groups(held: Shapes, at_least: int) -> Iterator[_Group]:
    """What lies together in a file, from all of it to ever smaller parts of it; those of fewer tensors are left out."""
    waiting = deque([_Group("", held)])
    while waiting:
        group = waiting.popleft()
        yield group
        shared = _shared(group.shapes)
        for branch, inside in _branches(group.shapes).items():
            if at_least <= len(inside) < len(group.shapes):
                waiting.append(_Group(full_name(shared, branch), inside))


def _shared(names: Iterable[str]) -> str:
    """The first parts that all names have in common."""
    first, last = (name.split(".") for name in (min(names), max(names)))  # what these share, all share
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first[:-1], last[:-1], strict=False))
    return ".".join(part for part, _ in pairs)


def _branches(held: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """The tensors by the first part of their names that they do not all have in common."""
    depth = len(_shared(held).split(".")) if _shared(held) else 0
    branches: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, shape in held.items():
        branches[name.split(".", depth + 1)[depth]][name] = shape
    return branches


def _surplus(group: _Group, ours: Shapes, in_order: bool) -> str:
    """The options that leave out what a group holds beside the network, or nothing where no few would do.

    What goes as a whole are branches whose name is none of the network's, or those of a single number or list of them.
    """
    shared, branches = _shared(group.shapes), _branches(group.shapes)
    known = {name.partition(".")[0] for name in ours}
    strangers = [branch for branch in branches if branch not in known]
    loose = [branch for branch, held in branches.items() if len(held) == 1 and len(*held.values()) < 2]
    for surplus in (strangers, loose):
        rest = {
            name: shape for branch, held in branches.items() if branch not in surplus for name, shape in held.items()
        }
        if len(surplus) <= _IGNORED_AT_MOST and _matches(rest, ours, in_order):
            places = (full_name(shared, branch) for branch in surplus)
            patterns = (place if place in group.shapes else f"{place}.*" for place in places)
            return " ".join(f"--ignore {shlex.quote(pattern)}" for pattern in patterns)
    return ""


def _prefixes(held: Shapes, ours: Shapes, in_order: bool) -> str:
    """The options that pick a network whose names begin alike (`student_conv1`), if there is one."""
    alike: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, shape in held.items():
        prefix = re.match(r"(?:.*?\.)??([^._/]+[_/])", name)
        if prefix is not None:
            alike[prefix[1]][name.removeprefix(prefix[0])] = shape
    return " or ".join(
        f"--prefix {shlex.quote(prefix)}" for prefix, rest in alike.items() if _matches(rest, ours, in_order)
    )


def _matches(theirs: Shapes, ours: Shapes, in_order: bool) -> bool:
    return bool(_fitting([_Group("", theirs)], ours, in_order))


def _contents(held: Shapes) -> str:
    """What a file holds, by its first branching: how many tensors, the first and the last with their shapes."""
    told = []
    for branch, inside in _branches(held).items():
        place = full_name(_shared(held), branch)
        first, *_, last = [*inside, *inside]
        ends = [f"{name.removeprefix(f'{place}.')} {in_words(held[name])}" for name in (first, last)]
        told.append(
            f"{place} ({len(inside)} tensors, {' to '.join(ends)})"
            if len(inside) > 1
            else f"{first} ({in_words(held[first])})"
        )
    return some(told)


def _layers(held: Shapes) -> Counter[tuple[int, ...]]:
    """The shapes of what is more than a single number, and how often each occurs."""
    return Counter(shape for shape in held.values() if shape != ())


def _below(place: str, held: Shapes) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in held.items() if f"{name}.".startswith(f"{place}.")}
