"""Which tensor of somebody else's state dict is which of ours: by name, else by order and shape.

Pure functions of names and shapes. They refuse rather than guess: where the file leaves two answers, it does not fit.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nasdistill.errors import UserError
from nasdistill.words import some

Shapes = Mapping[str, tuple[int, ...]]
How = Literal["name", "order", "shape"]
_Content = tuple[str, tuple[int, ...]]
"""The last part of a tensor's name, and its shape."""

# How often a norm was updated: it decides nothing with the usual momentum, and older files lack it.
COUNTER = "num_batches_tracked"
_KINDS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class TensorPair:
    """A tensor's name in the file and in the network, and its shape."""

    theirs: str
    ours: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """What matched to what.

    Attributes:
        how: `name`; `order`, both list the same shapes one after the other; or `shape`, modules of the same shapes
            were paired in their order.
        pairs: in the network's order.
        kept: update counters of norms that the file lacks.
    """

    how: How
    pairs: tuple[TensorPair, ...]
    kept: tuple[str, ...]

    def lines(self) -> list[str]:
        """What to print: a summary, and a line per tensor."""
        kept = f"; {len(self.kept)} counters of norms are not in the file and stay zero" if self.kept else ""
        told = [f"{len(self.pairs)} tensors matched by {self.how}{kept}"]
        return told + [f"{pair.theirs} -> {pair.ours} ({in_words(pair.shape)})" for pair in self.pairs]


def match(theirs: Shapes, ours: Shapes, in_order: bool = True) -> Match:
    """Pair the tensors of a file with those of a network.

    Args:
        theirs: the file's names and shapes, in its order.
        ours: the network's, in its order.
        in_order: whether the file keeps the order in which modules were made; safetensors sorts by name.

    Raises:
        UserError: names the tensors that do not fit, with their shapes on both sides, or those that could be swapped.
    """
    counters = _counters(theirs, ours)
    their_values = {name: shape for name, shape in theirs.items() if name not in counters}
    our_values = {name: shape for name, shape in ours.items() if not name.endswith(COUNTER)}
    how, names = _decide(their_values, our_values, in_order)
    modules = {module_of(our): module_of(their) for our, their in names.items()}
    for name in ours:
        counter = f"{modules.get(module_of(name))}.{COUNTER}"
        if name.endswith(COUNTER) and counter in theirs:
            names[name] = counter
    pairs = tuple(TensorPair(names[our], our, shape) for our, shape in ours.items() if our in names)
    return Match(how, pairs, tuple(name for name in ours if name not in names))


def _counters(theirs: Shapes, ours: Shapes) -> set[str]:
    """The file's update counters: by name, or the single numbers if there are as many as the network has counters."""
    named = {name for name in theirs if name.endswith(COUNTER)}
    single = {name for name, shape in theirs.items() if shape == ()}
    return single if not named and len(single) == sum(name.endswith(COUNTER) for name in ours) else named


def _decide(theirs: Shapes, ours: Shapes, in_order: bool) -> tuple[How, dict[str, str]]:
    """How the tensors match, and the file's name for each of the network's."""
    stripped = _without_wrappers(theirs, ours)
    if set(stripped) == set(ours) and all(theirs[stripped[name]] == shape for name, shape in ours.items()):
        return "name", {name: stripped[name] for name in ours}
    ordered = by_numbers(list(theirs))
    how: How = "order"
    names = _one_after_the_other(ordered, theirs, ours)
    if names is None:
        how, names = "shape", _by_modules(ordered, theirs, ours)
    if names is None:
        raise UserError(_difference(stripped, theirs, ours))
    if not in_order:
        _refuse_lost_order(theirs)
    return how, names


def _without_wrappers(theirs: Shapes, ours: Shapes) -> dict[str, str]:
    """Names without the first parts that all share (`module.` and the like), as far as it makes them ours; to names."""
    stripped = {name: name for name in theirs}
    best = stripped
    while len({name.split(".")[0] for name in stripped}) == 1 and all("." in name for name in stripped):
        stripped = {name.partition(".")[2]: full for name, full in stripped.items()}
        if len(stripped.keys() & ours) > len(best.keys() & ours):
            best = stripped
    return best


def by_numbers(names: Sequence[str]) -> list[str]:
    """The given order, but siblings that differ in a number alone (`block2`, `block10`) in the order of the numbers."""
    children: dict[str, list[str]] = {}
    for name in names:
        first, _, rest = name.partition(".")
        children.setdefault(first, []).append(rest)
    places: dict[str, list[str]] = defaultdict(list)
    for first in children:
        places[_template(first)].append(first)
    for alike in places.values():
        alike.sort(key=_numbers)
    ordered = [places[_template(first)].pop(0) for first in children]
    return [
        f"{first}.{rest}" if rest else first
        for first in ordered
        for rest in (by_numbers(children[first]) if children[first] != [""] else [""])
    ]


def _one_after_the_other(ordered: Sequence[str], theirs: Shapes, ours: Shapes) -> dict[str, str] | None:
    """The two lists side by side, if their shapes agree all along, and so do their kinds (weight, bias) where known."""
    if [theirs[name] for name in ordered] != list(ours.values()):
        return None
    names = dict(zip(ours, ordered, strict=True))
    return names if all(_kinds_agree(their, our) for our, their in names.items()) else None


def _by_modules(ordered: Sequence[str], theirs: Shapes, ours: Shapes) -> dict[str, str] | None:
    """Modules that hold tensors of the same names and shapes, paired in order; None if that does not work out.

    It works out if each kind of module is equally frequent on both sides, and modules that stand side by side in one
    still do in the other: a norm at the end of a network must not become one of the norms inside its last block.
    """
    their_modules, our_modules = _modules(ordered, theirs), _modules(list(ours), ours)
    if Counter(their_modules.values()) != Counter(our_modules.values()):
        return None
    waiting: dict[tuple[_Content, ...], list[str]] = defaultdict(list)
    for path, signature in their_modules.items():
        waiting[signature].append(path)
    paired = {our: waiting[signature].pop(0) for our, signature in our_modules.items()}
    parents = {(module_of(our), module_of(their)) for our, their in paired.items()}
    if len(parents) not in (len({our for our, _ in parents}), len({their for _, their in parents})):
        return None
    return {name: full_name(paired[module_of(name)], _leaf(name)) for name in ours}


def _refuse_lost_order(theirs: Shapes) -> None:
    """Refuse a file that sorts its names if modules side by side look alike and no number orders them."""
    inside: dict[str, Counter[_Content]] = defaultdict(Counter)
    for name, shape in theirs.items():
        parts = name.split(".")
        for depth in range(1, len(parts)):
            inside[".".join(parts[:depth])][parts[-1], shape] += 1
    seen: dict[tuple[str, frozenset[tuple[_Content, int]]], str] = {}
    for path, content in inside.items():
        other = seen.setdefault((module_of(path), frozenset(content.items())), path)
        if _template(_leaf(other)) != _template(_leaf(path)):
            raise UserError(
                f"{other} and {path} hold tensors of the same shapes, and the file, which sorts its names, "
                "does not tell which comes first; a file of torch.save keeps the order"
            )


def _modules(names: Sequence[str], shapes: Shapes) -> dict[str, tuple[_Content, ...]]:
    """The modules that hold tensors, in order, with the names and shapes of what they hold."""
    found: dict[str, list[_Content]] = {}
    for name in names:
        found.setdefault(module_of(name), []).append((_leaf(name), shapes[name]))
    return {path: tuple(sorted(content)) for path, content in found.items()}


def _difference(stripped: Mapping[str, str], theirs: Shapes, ours: Shapes) -> str:
    """One sentence on the tensors that do not fit; by name where most names agree, else by shape."""
    if len(stripped.keys() & ours) * 2 >= len(ours):
        common = [name for name in ours if name in stripped]
        only_theirs = [stripped[name] for name in stripped if name not in ours]
        only_ours = [name for name in ours if name not in stripped]
    else:
        common = []
        only_theirs = _surplus(theirs, ours)
        only_ours = _surplus(ours, theirs)
    told = [
        f"{name} is {in_words(theirs[stripped[name]])} in the file and {in_words(ours[name])} in the network"
        for name in common
        if theirs[stripped[name]] != ours[name]
    ]
    problems = [some(told)] if told else []
    if only_theirs:
        problems.append("only in the file: " + some([f"{name} ({in_words(theirs[name])})" for name in only_theirs]))
    if only_ours:
        problems.append("only in the network: " + some([f"{name} ({in_words(ours[name])})" for name in only_ours]))
    if not problems:
        return "both hold tensors of the same shapes, but their names and order do not tell which is which"
    return "; ".join(problems)


def _surplus(held: Shapes, others: Shapes) -> list[str]:
    """The tensors of `held` beyond as many of their shape as `others` have."""
    left = Counter(others.values())
    surplus = []
    for name, shape in held.items():
        if left[shape]:
            left[shape] -= 1
        else:
            surplus.append(name)
    return surplus


def _kinds_agree(their: str, our: str) -> bool:
    kinds = [_leaf(name) for name in (their, our) if _leaf(name) in _KINDS]
    return len(kinds) < 2 or kinds[0] == kinds[1]


def module_of(name: str) -> str:
    """The path of the module that holds a tensor."""
    return name.rpartition(".")[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def full_name(path: str, name: str) -> str:
    """Of what a name means below a path, which may be empty."""
    return f"{path}.{name}" if path else name


def _template(part: str) -> str:
    return re.sub(r"[0-9]+", "#", part)


def _numbers(part: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]{1,18}", part)]


def in_words(shape: tuple[int, ...]) -> str:
    """A shape as `3x32x32`."""
    return "x".join(map(str, shape)) or "a number"
