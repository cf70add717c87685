"""Numbers over seeds as people read them, and one plain sentence for what each step gained."""

from __future__ import annotations

from collections.abc import Sequence

from nasdistill.report import payloads
from nasdistill.report.records import Row
from nasdistill.report.summaries import OTHER_IMAGES, Difference, StageSummary, Summary, paired_difference, summarise
from nasdistill.words import NONE, duration, short, size, whole

TRANSITION_ERROR = "mean_transition_error"


def spread(summary: Summary | None, digits: int = 2) -> str:
    """`97.22 ± 0.31`, or `97.22` where there is one value."""
    if summary is None:
        return NONE
    mean = f"{summary.mean:.{digits}f}"
    return mean if summary.deviation is None else f"{mean} ± {summary.deviation:.{digits}f}"


def each(summary: Summary | None, digits: int = 2) -> str:
    """Each value of several, `97.40, 97.10, 97.20`; nothing where there is only one."""
    if summary is None or len(summary.values) < 2:
        return ""
    return ", ".join(f"{value:.{digits}f}" for value in summary.values)


def counted(summary: Summary | None) -> str:
    """A count over seeds: one number where all agree, else from the smallest to the largest."""
    if summary is None:
        return NONE
    low, high = min(summary.values), max(summary.values)
    return whole(low) if low == high else f"{whole(low)} to {whole(high)}"


def interval(difference: Difference) -> str:
    """`+0.31 to +1.29`; a dash where one seed, or equal differences, allow none."""
    if difference.low is None:
        return NONE
    return f"{difference.low:+.2f} to {difference.high:+.2f}"


def with_weights(what: str, kind: str) -> str:
    """`student (last weights)`; nothing is added where validation selected them, which goes without saying."""
    return what if kind == "selected" else f"{what} ({kind} weights)"


def against(other: str, difference: Difference) -> str:
    """`0.80 points over alone`, and how sure that is."""
    text = f"{abs(difference.mean):.2f} points {'over' if difference.mean > 0 else 'under'} {other}"
    if abs(difference.mean) < 0.005:
        text = f"level with {other}"
    if difference.low is None:
        return text
    doubt = "" if difference.sure else ": it may be chance"
    return f"{text} (95 % interval {interval(difference)}{doubt})"


def gain(stage: StageSummary, earlier: Sequence[StageSummary]) -> str:
    """One sentence: what this stage brought, beside the stages before it."""
    parts = _accuracy_parts(stage, earlier) if stage.accuracies() else _size_parts(stage, earlier)
    parts += [f"{spread(found)} % of the {part} images" for part in OTHER_IMAGES if (found := stage.accuracy_on(part))]
    errors = [row.metrics[TRANSITION_ERROR] for row in stage.rows if TRANSITION_ERROR in row.metrics]
    if errors:
        parts.append(f"a mean transition error of {spread(summarise(errors), 4)} between two networks")
    parts += _missing_seeds(stage, earlier) + _troubles(stage)
    seconds = stage.numbers("seconds")
    if seconds is not None:
        parts.append(f"{duration(seconds.mean)} of work" + (" per seed" if len(stage.rows) > 1 else ""))
    return "; ".join(parts) + "." if parts else ""


def _accuracy_parts(stage: StageSummary, earlier: Sequence[StageSummary]) -> list[str]:
    """The accuracy; the differences to the first network and to teachers of the same size, of an ensemble to its best
    member; what a larger network that it read reaches, and a teacher of another size."""
    trained = [other for other in earlier if other.accuracies()]
    text = with_weights(f"{spread(stage.accuracy())} %", stage.counts)
    weights = stage.numbers("bytes")
    if weights is not None:
        text += f" with {size(weights.mean)} " + (f"as {stage.form}" if stage.form else "of weights")
    alike = [other for other in trained if stage.same_size(other)]
    compared = []
    for number, other in enumerate(alike):
        taught = stage.reads(other, "teacher")
        difference = stage.over(other) if number == 0 or taught else None
        if difference is not None:
            name = with_weights(other.stage, difference.kind)
            compared.append(against(f"its teacher {name}" if taught else name, difference))
    compared += _over_members(stage)
    parts = [", ".join([text, *compared[:1]]), *compared[1:]]
    for other in trained:
        times = None if other in alike else _times(other, stage)
        if times is not None and (stage.reads(other, "teacher") or (stage.reads(other) and times > 1)):
            kind = stage.counts_beside(other)
            accuracy = spread(other.accuracy(kind))
            parts.append(f"{with_weights(other.stage, kind)}, {times:.2f} times as large, has {accuracy} %")
    return parts


def _over_members(stage: StageSummary) -> list[str]:
    """What an ensemble gains over the best of its members, which may be another one with each seed."""
    every = payloads.by_seed(payloads.EnsemblePayload, stage.rows)
    found = {seed: ensemble for seed, ensemble in every.items() if ensemble.ensembles}
    whole = {seed: ensemble.whole.accuracy for seed, ensemble in found.items()}
    best = {seed: max(member.accuracy for member in ensemble.members) for seed, ensemble in found.items()}
    gain = paired_difference(whole, best)
    if gain is None:
        return []
    members = counted(summarise([len(ensemble.members) for ensemble in found.values()]))
    return [against(f"the best of its {members} members", gain)]


def _missing_seeds(stage: StageSummary, earlier: Sequence[StageSummary]) -> list[str]:
    """Where a stage was left out with some seeds, as a generation is after one that brought nothing."""
    seeds = {row.seed for other in (*earlier, stage) for row in other.rows}
    return [f"ran with {len(stage.rows)} of {len(seeds)} seeds"] if len(stage.rows) < len(seeds) else []


def _troubles(stage: StageSummary) -> list[str]:
    """Where a transfer without data collapsed, and what ended before its time."""
    troubles = [(row.seed, trouble) for row in stage.rows if (trouble := _trouble(row))]
    return [trouble if len(stage.rows) == 1 else f"seed {seed} {trouble}" for seed, trouble in troubles]


def _trouble(row: Row) -> str | None:
    if row.stopped:
        return f"ended early: {row.stopped}"
    if not row.collapses:
        return None
    first, *more = row.collapses
    return f"collapsed after {whole(first)} pseudo-batches" + (f" and {len(more)} times more" if more else "")


def _size_parts(stage: StageSummary, earlier: Sequence[StageSummary]) -> list[str]:
    """The size, and how many times the size of what it was made from."""
    parameters, cost = stage.numbers("parameters"), stage.numbers("multiply_adds")
    if parameters is None:
        return []
    text = f"a network of {counted(parameters)} parameters"
    if cost is not None:
        text += f" and {short(cost.mean)} multiply-adds"
    for other in earlier:
        times = _times(stage, other)
        if stage.reads(other) and times is not None:
            text += f", {times:.2f} times {other.stage}"
    return [text]


def _times(stage: StageSummary, other: StageSummary) -> float | None:
    """How many times the parameters of `other` this stage has."""
    ours, theirs = stage.numbers("parameters"), other.numbers("parameters")
    return ours.mean / theirs.mean if ours is not None and theirs is not None else None
