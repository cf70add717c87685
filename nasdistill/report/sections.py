"""The parts of the page below the results table: pictures and tables made from what the stages left behind."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nasdistill.artifacts import open_artifact
from nasdistill.errors import UserError
from nasdistill.report import generations, payloads, plots, tables, trials, words
from nasdistill.report.maps import draw_attention, teacher_names
from nasdistill.report.panels import TEST_ACCURACY, UNITS, panels
from nasdistill.report.pseudo import draw_development, draw_picture
from nasdistill.report.records import Row
from nasdistill.report.summaries import StageSummary, summarise
from nasdistill.search.drawing import draw_cell
from nasdistill.words import NONE, whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """Pictures and a table under one heading.

    Attributes:
        wide: the pictures need the whole width.
        folded: shown after a click.
    """

    title: str
    pictures: tuple[str, ...] = ()
    table: tables.Table | None = None
    wide: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Section:
    title: str
    lead: str
    groups: tuple[Group, ...] = field(default_factory=tuple)


def sections(stages: Sequence[StageSummary]) -> list[Section]:
    """Every section that has something to show."""
    made = (
        _overview(stages),
        _training(stages),
        _together(stages),
        _made_up(stages),
        _tried(stages),
        _cells(stages),
        _growth(stages),
        _attention(stages),
        _transitions(stages),
        _confusions(stages),
    )
    return [section for section in made if section.groups]


def _overview(stages: Sequence[StageSummary]) -> Section:
    points = {}
    for stage in stages:
        found = [(row.parameters, stage.accuracies().get(row.seed)) for row in stage.rows]
        places = [(float(size), accuracy) for size, accuracy in found if size is not None and accuracy is not None]
        if places:
            points[stage.stage] = places
    pictures = []
    if points:
        pictures.append(plots.scatter(points, "Accuracy and size", "parameters", "test accuracy, %"))
    by_unit: dict[str, dict[str, list[plots.Curve]]] = {}
    for stage in stages:
        for history in payloads.by_seed(payloads.History, stage.rows).values():
            if curve := history.curves.get(TEST_ACCURACY):
                by_unit.setdefault(history.x, {}).setdefault(stage.stage, []).append(curve)
    for unit, by_stage in by_unit.items():  # epochs and pseudo-batches share no axis
        title = "Test accuracy while training" if unit == "epoch" else f"Test accuracy over {unit}"
        pictures.append(plots.lines(by_stage, title, unit, "test accuracy, %"))
    groups = (Group("", tuple(pictures)),) if pictures else ()
    lead = "Each point is one seed. Up and to the left is better."
    if any(stage.counts == "last" for stage in stages):
        lead += " Where nothing is selected, it is the accuracy of the last weights."
    return Section("At a glance", lead, groups)


def _training(stages: Sequence[StageSummary]) -> Section:
    groups = []
    for stage in stages:
        histories = list(payloads.by_seed(payloads.History, stage.rows).values())
        pictures = [
            plots.lines(series, title, histories[0].x, UNITS.get(title, ""))
            for title, series in panels([history.curves for history in histories]).items()
        ]
        if pictures:
            groups.append(Group(stage.stage, tuple(pictures)))
    lead = "With several seeds the strong line is their mean and each seed is faint."
    return Section("How it went", lead, tuple(groups))


def _together(stages: Sequence[StageSummary]) -> Section:
    groups = []
    for stage in stages:
        found = list(payloads.by_seed(payloads.Ensemble, stage.rows).values())
        if found:
            groups.append(Group(stage.stage, generations.draw(found), generations.table(found)))
            groups.append(Group(f"{stage.stage}: how sure, how often right", generations.draw_reliability(found)))
    lead = (
        "Networks in their order, each alone, and the first two, three, ... members of the ensemble together. Members "
        "that agree on more of the test images have less to gain from each other. Where a network is as often right as "
        "it is sure, its dots lie on the dashed line: below it is too sure, above it not sure enough. A larger dot "
        "stands for more images; the calibration error is the mean distance from the line over images."
    )
    return Section("Alone and together", lead, tuple(groups))


def _made_up(stages: Sequence[StageSummary]) -> Section:
    groups = []
    for stage in stages:
        collapses = {row.seed: row.collapses for row in stage.rows}
        for number, (seed, pseudo) in enumerate(payloads.by_seed(payloads.Pseudo, stage.rows).items()):
            if pseudo.pictures:
                last = pseudo.pictures[-1]
                title = stage.stage if len(stage.rows) == 1 else f"{stage.stage}, seed {seed}"
                drawn = (draw_development(pseudo, collapses[seed]),)
                groups.append(Group(title, drawn, wide=True, folded=number > 0))
                title = f"{title}: all {len(last.images)} images after {last.done:,} pseudo-batches"
                groups.append(Group(title, (draw_picture(last),), wide=True, folded=number > 0))
    lead = (
        "What the generator made to find where student and teacher differ, from early to late; latents are drawn anew "
        "each time. Beside it how often each class was answered: bars of the student upwards, of the teacher downwards."
    )
    return Section("What was made up", lead, tuple(groups))


def _tried(stages: Sequence[StageSummary]) -> Section:
    groups = []
    lead = (
        "Each trial is an architecture, trained a little on a part of the training images and scored on the rest of "
        "them. The stronger the colour, the better; the star is the one that was found."
    )
    for stage in stages:
        for number, (seed, found) in enumerate(payloads.by_seed(payloads.SearchTrials, stage.rows).items()):
            title = stage.stage if len(stage.rows) == 1 else f"{stage.stage}, seed {seed}"
            groups.append(Group(title, trials.draw(found), trials.table(found), folded=number > 0))
            mattered = trials.draw_importance(found)
            if mattered is not None:
                groups.append(Group(f"{title}: what mattered", (mattered,), folded=number > 0))
    if any(group.table is None for group in groups):
        lead += (
            " What mattered is the share of the scores' variance that each choice explains in a random forest; it is "
            "shown where the forest tells the scores of trials that its trees have not seen (out-of-bag R² over 0)."
        )
    return Section("What was tried", lead, tuple(groups))


def _cells(stages: Sequence[StageSummary]) -> Section:
    groups = []
    for stage in stages:
        for number, (seed, genotype) in enumerate(payloads.by_seed(payloads.Genotype, stage.rows).items()):
            try:
                pictures = (draw_cell(genotype.normal, "normal cell"), draw_cell(genotype.reduce, "reduction cell"))
            except ValueError as error:
                log.warning("the genotype of stage %r, seed %d cannot be drawn: %s", stage.stage, seed, error)
                continue
            title = stage.stage if len(stage.rows) == 1 else f"{stage.stage}, seed {seed}"
            groups.append(Group(title, pictures, wide=True, folded=number > 0))
    return Section(
        "The cells that were found",
        "Boxes are operations, circles the sums of what they give; the output joins all circles (dashed).",
        tuple(groups),
    )


def _growth(stages: Sequence[StageSummary]) -> Section:
    groups = []
    for stage in stages:
        for number, (seed, growth) in enumerate(payloads.by_seed(payloads.Growth, stage.rows).items()):
            pictures = [
                plots.bars(values, [str(cell) for cell in range(_longest(values))], title, "cell", unit)
                for values, title, unit in (
                    (growth.widths, "Width of each cell", "channels"),
                    (growth.importance, "Importance of each cell", "importance"),
                )
                if values
            ]
            title = stage.stage if len(stage.rows) == 1 else f"{stage.stage}, seed {seed}"
            table = tables.plain(growth.steps) if growth.steps else None
            groups.append(Group(title, tuple(pictures), table, folded=number > 0))
    return Section(
        "How the teacher grew",
        "Width and importance of each cell, before and after, and the plan step by step.",
        tuple(groups),
    )


def _longest(values: Mapping[str, Sequence[float]]) -> int:
    return max((len(numbers) for numbers in values.values()), default=0)


def _attention(stages: Sequence[StageSummary]) -> Section:
    groups = []
    alike: dict[tuple[str, str, str], list[float]] = {}
    for stage in stages:
        for number, (seed, attention) in enumerate(payloads.by_seed(payloads.Attention, stage.rows).items()):
            pictures = tuple(draw_attention(attention, image) for image in range(len(attention.images)))
            title = stage.stage if len(stage.rows) == 1 else f"{stage.stage}, seed {seed}"
            groups.append(Group(title, pictures, folded=number > 0))
            names = teacher_names(attention)
            for pair in attention.pairs:
                theirs = pair.teacher if len(names) == 1 else f"{names[pair.number]}: {pair.teacher}"
                alike.setdefault((stage.stage, pair.student, theirs), []).append(pair.similarity)
    if alike:
        header = ("stage", "student's module", "teacher's module", "similarity")
        rows = tuple(
            (*map(tables.Cell, names), tables.Cell(words.spread(found, 3), words.each(found, 3)))
            for names, found in ((names, summarise(values)) for names, values in alike.items())
        )
        groups.append(Group("Who attends alike", table=tables.Table(header, rows, words=3)))
    lead = (
        "Beside each test image the attention maps of student and teacher, from early to late: energy per place, dark "
        "where there is none, bright where a map has most. The similarity is the mean cosine of both maps over up to "
        "500 test images: 1 where they are the same, and never below 0."
    )
    return Section("Where they look", lead, tuple(groups))


def _transitions(stages: Sequence[StageSummary]) -> Section:
    pictures, by_class = [], []
    for stage in stages:
        found = list(payloads.by_seed(payloads.Transition, stage.rows).values())
        if found:
            curves = {who: [list(enumerate(getattr(each, who))) for each in found] for who in ("teacher", "student")}
            pictures.append(plots.lines(curves, stage.stage, "step", "probability", probabilities=True))
            by_class.append(Group(f"{stage.stage}, by class", table=_by_class(found), folded=True))
    lead = (
        "Test images that both networks take for the same class are changed along the student's gradient until it "
        "takes them for another: how sure both are of that other class, mean over images and classes. The mean "
        "transition error is how far the two are apart, mean over steps as well: 0 where they never differ, at most 1."
    )
    groups = (Group("", tuple(pictures), tables.comparisons(stages)), *by_class) if pictures else ()
    return Section("Across decision boundaries", lead, groups)


def _by_class(found: Sequence[payloads.Transition]) -> tables.Table:
    """A line per class that is walked to: the error, and how sure both networks are of it in the end."""
    lines: dict[str, list[payloads.PathsToClass]] = {}
    for each in (each for transition in found for each in transition.classes):
        lines.setdefault(each.label, []).append(each)
    rows = [
        (
            tables.Cell(label),
            tables.over_seeds([statistics.fmean(each.error) for each in several], 4),
            tables.over_seeds([each.student[-1] for each in several], 4),
            tables.over_seeds([each.teacher[-1] for each in several], 4),
        )
        for label, several in lines.items()
    ]
    return tables.Table(("to class", "transition error", "student, last step", "teacher, last step"), tuple(rows))


def _confusions(stages: Sequence[StageSummary]) -> Section:
    pictures = []
    for stage in stages:
        found = list(payloads.by_seed(payloads.Confusion, stage.rows).values())
        same = [confusion for confusion in found if confusion.labels == found[0].labels]
        if same:
            matrix = [
                [sum(cells) for cells in zip(*rows, strict=True)]
                for rows in zip(*(c.matrix for c in same), strict=True)
            ]
            title = stage.stage if len(same) == 1 else f"{stage.stage}, {len(same)} seeds"
            pictures.append(plots.confusion(matrix, same[0].labels, title))
    lead = "Test images by true and predicted class: blue is right, orange is wrong, stronger is a larger share."
    return Section("What is confused with what", lead, (Group("", tuple(pictures)),) if pictures else ())


def provenance(stages: Sequence[StageSummary]) -> tables.Table:
    """One line per artifact: which it is, who made it, at which cost."""
    return tables.plain([_origin(row) for stage in stages for row in stage.rows])


def _origin(row: Row) -> dict[str, str]:
    line = {"stage": row.stage, "seed": str(row.seed), "made by": "an earlier run" if row.cached else "this run"}
    if row.folder is None:
        return line
    try:
        manifest = open_artifact(row.folder, verify=False).manifest
    except UserError as error:
        log.warning("%s; the report leaves its origin out", error)
        return line
    memory, rate = manifest.cost.get("peak_memory_bytes"), manifest.cost.get("samples_per_second")
    return {
        **line,
        "images/s": whole(rate),
        "peak memory": NONE if memory is None else f"{memory / 2**20:,.0f} MiB",
        "git commit": (manifest.provenance.get("git") or NONE)[:12],
        "artifact": row.folder.name,
    }
