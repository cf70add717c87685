"""Networks alone and together, over seeds: how the generations of a run and the ensembles of the first of them compare.

A run may end after fewer generations with one seed than with another. What is shown of a network, or of so many members
together, is the mean over the seeds that have it, and beside its name stands how many these are if not all.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from nasdistill.report import answer_plots, plots, tables, words
from nasdistill.report.parts import Group
from nasdistill.report.payloads import EnsemblePayload, FirstMembers, OneNetwork, Score
from nasdistill.report.sections import SECTIONS, Found, Section
from nasdistill.report.summaries import summarise

LONGEST_NAME = 14  # in a picture; its end is kept, in which generations differ


@SECTIONS.register("ensembles")
class Ensembles(Section):
    """The networks of an ensemble, or generations, alone and together."""

    title = "Ensembles"
    lead = (
        "Networks in order, each alone, and ensembles of the first two, three, ... members. Members that agree on "
        "more of the test images have less to gain from each other. A calibrated network has its dots on the dashed "
        "line: below it is overconfident, above underconfident. A larger dot stands for more images; the calibration "
        "error is the mean distance from the line over images."
    )
    payload = EnsemblePayload
    place = 20

    def groups(self, found: Sequence[Found[EnsemblePayload]]) -> list[Group]:
        groups = []
        for each in found:
            name, seeds = each.stage.stage, list(each.by_seed.values())
            groups.append(Group(name, draw(seeds), table(seeds)))
            groups.append(Group(f"{name}: reliability diagrams", draw_reliability(seeds)))
        return groups


def draw(found: Sequence[EnsemblePayload]) -> tuple[str, str]:
    """Accuracy in order, of each network and of the first members together, and the agreement of each two; SVG.

    Args:
        found: one per seed, at least one.
    """
    alone = _alone(found)
    places = {name: float(place) for place, name in enumerate(alone)}
    series = {
        "each member": [[(places[each.name], each.accuracy) for each in seed.members] for seed in found],
        "ensemble up to it": [
            [(places[seed.members[first.members - 1].name], first.accuracy) for first in seed.ensembles]
            for seed in found
        ],
        "no member": [
            [(places[each.name], each.accuracy) for each in seed.networks if not each.member] for seed in found
        ],
    }
    names = [
        plots.shortened(name, LONGEST_NAME, keep_end=True) + _behind(several, found, "")
        for name, several in alone.items()
    ]
    return (
        plots.in_order(series, names, "Accuracy of members and ensembles", "test accuracy, %"),
        answer_plots.agreement(_agreement(found, list(alone)), names, "Agreement, % of test images"),
    )


def draw_reliability(found: Sequence[EnsemblePayload]) -> tuple[str, ...]:
    """Accuracy over confidence of the first network, the last member and all members together; SVG.

    Args:
        found: one per seed, at least one; all seeds share the pictures.
    """
    shown: dict[str, list[Score]] = {
        _either([seed.networks[0].name for seed in found]): [seed.networks[0] for seed in found],
        _either([seed.members[-1].name for seed in found]): [seed.members[-1] for seed in found],
    }
    if any(seed.ensembles for seed in found):
        count = words.counted(summarise([len(seed.members) for seed in found]))
        shown[f"{count} members together"] = [seed.whole for seed in found]
    return tuple(
        answer_plots.reliability(
            [score.bins for score in scores],
            title,
            f"calibration error\n{words.spread(summarise([score.calibration_error for score in scores]), 3)}",
        )
        for title, scores in shown.items()
    )


def table(found: Sequence[EnsemblePayload]) -> tables.Table:
    """A line per network, and per number of members together: what they score."""
    lines: list[tuple[str, str, Sequence[Score]]] = [
        (name + _behind(several, found), "" if several[0].member else "no member", several)
        for name, several in _alone(found).items()
    ]
    lines += [
        (f"first {count} members{_behind(several, found)}", "together", several)
        for count, several in _together(found).items()
    ]
    rows = tuple(
        (
            tables.Cell(name, detail),
            tables.over_seeds(summarise([score.accuracy for score in several])),
            tables.over_seeds(summarise([score.loss for score in several]), 4),
            tables.over_seeds(summarise([score.calibration_error for score in several]), 4),
        )
        for name, detail, several in lines
    )
    return tables.Table(("network", "accuracy %", "loss, nats", "calibration error"), rows)


def _alone(found: Sequence[EnsemblePayload]) -> dict[str, list[OneNetwork]]:
    """Each network with every seed that has it; in the order of the seed that has most."""
    longest = max(found, key=lambda seed: len(seed.networks))
    several: dict[str, list[OneNetwork]] = {each.name: [] for each in longest.networks}
    for seed in found:
        for each in seed.networks:
            several.setdefault(each.name, []).append(each)
    return several


def _together(found: Sequence[EnsemblePayload]) -> dict[int, list[FirstMembers]]:
    """The first 2, 3, ... members with every seed that has so many."""
    most = max(len(seed.ensembles) for seed in found)
    return {
        place + 2: [seed.ensembles[place] for seed in found if place < len(seed.ensembles)] for place in range(most)
    }


def _agreement(found: Sequence[EnsemblePayload], names: Sequence[str]) -> list[list[float | None]]:
    """Mean agreement of each two networks over the seeds that have both; None where none has."""
    pairs: dict[tuple[str, str], list[float]] = {}
    for seed in found:
        for one, row in zip(seed.networks, seed.agreement, strict=True):
            for other, percent in zip(seed.networks, row, strict=True):
                pairs.setdefault((one.name, other.name), []).append(percent)
    return [
        [statistics.fmean(pairs[one, other]) if (one, other) in pairs else None for other in names] for one in names
    ]


def _behind(several: Sequence[Score], found: Sequence[EnsemblePayload], unit: str = " seeds") -> str:
    """How many seeds stand behind a value; nothing where all do."""
    return "" if len(several) == len(found) else f" ({len(several)} of {len(found)}{unit})"


def _either(names: Sequence[str]) -> str:
    return " or ".join(sorted(set(names)))
