"""The curves of a stage's history, and which of them share a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nasdistill.report.parts import Group
from nasdistill.report.payloads import HistoryPayload
from nasdistill.report.plots import Curve, lines
from nasdistill.report.sections import SECTIONS, Found, Section

PARTS = ("train", "validation", "test")
BALANCED = "balanced accuracy"
DEPARTS = 2.0
"""Points between accuracy and balanced accuracy from which on the latter has a picture."""
REGRET = "regret"
FIRST = ("loss", "accuracy", BALANCED, REGRET)
LAST = ("entropy", "skips", "learning rate")
LOSSES_OF = ("generator", "student")
SPREADS = "spread of the predictions"
UNITS = {"accuracy": "%", BALANCED: "%", REGRET: "points", "agreement": "%", SPREADS: "entropy, share of the largest"}


@SECTIONS.register("curves")
class Curves(Section):
    """Curves of a stage: losses, accuracies and others."""

    title = "Learning curves"
    lead = "With several seeds the strong line is their mean and each seed is faint."
    payload = HistoryPayload
    place = 10

    def groups(self, found: Sequence[Found[HistoryPayload]]) -> list[Group]:
        groups = []
        for each in found:
            histories = list(each.by_seed.values())
            pictures = tuple(
                lines(series, title, histories[0].found_x if title == REGRET else histories[0].x, UNITS.get(title, ""))
                for title, series in panels([history.curves for history in histories]).items()
            )
            if pictures:
                groups.append(Group(each.stage.stage, pictures))
        return groups


def panel_of(name: str) -> tuple[str, str]:
    """The picture that a curve belongs to, and what it is called there.

    Examples:
        >>> panel_of("validation/accuracy")
        ('accuracy', 'validation')
        >>> panel_of("train/kd")
        ('loss', 'train: kd')
        >>> panel_of("entropy/normal")
        ('entropy', 'normal')
        >>> panel_of("alpha/normal/3/skip_connect")  # edge 3: one faint line per edge, their mean strong
        ('alpha, normal cell', 'skip_connect')
        >>> panel_of("generator/adversarial")
        ("generator's losses", 'adversarial')
        >>> panel_of("answers/teacher spread")
        ('spread of the predictions', 'teacher')
        >>> panel_of("learning rate")
        ('learning rate', 'learning rate')
    """
    first, slash, rest = name.partition("/")
    if not slash:
        return name, name
    if first in PARTS:
        if rest in FIRST:
            return rest, first
        return "loss", f"{first}: {rest}"
    if first in LOSSES_OF:
        return f"{first}'s losses", rest
    if first == "answers":
        who, _, what = rest.partition(" ")
        return (SPREADS, who) if what == "spread" else (rest, rest)
    if first == "alpha" and rest.count("/") == 2:
        cell, _edge, operation = rest.split("/")
        return f"alpha, {cell} cell" if cell in ("normal", "reduce") else f"alpha, {cell}", operation
    return first, rest


def panels(of_seeds: Sequence[Mapping[str, Curve]]) -> dict[str, dict[str, list[Curve]]]:
    """Pictures by title, each with its curves by name, one curve per seed; losses and accuracies come first.

    Balanced accuracy has none where it is all but the accuracy, as with classes of equal size.
    """
    found: dict[str, dict[str, list[Curve]]] = {title: {} for title in FIRST}
    for curves in of_seeds:
        for name, curve in curves.items():
            if curve:
                title, series = panel_of(name)
                found.setdefault(title, {}).setdefault(series, []).append(curve)
    if not any(map(_balanced_departs, of_seeds)):
        del found[BALANCED]
    titles = [title for title in found if title not in LAST] + [title for title in LAST if title in found]
    return {title: found[title] for title in titles if found[title]}


def _balanced_departs(curves: Mapping[str, Curve]) -> bool:
    return any(
        abs(balanced - plain) > DEPARTS
        for part in PARTS
        for (_, balanced), (_, plain) in zip(
            curves.get(f"{part}/{BALANCED}", []), curves.get(f"{part}/accuracy", []), strict=False
        )
    )
