"""What a hurried reader asks first: which network to take, how good and how small it is, and what it gets wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nasdistill.report import payloads, words
from nasdistill.report.sections.confusion import ConfusionPayload, summed
from nasdistill.report.summaries import StageSummary, candidates
from nasdistill.report.tables import UNEQUAL
from nasdistill.words import NONE, share_interval, short, size

WIDE = 0.06
"""Width of an interval of the accuracy that is worth a warning."""
MOST_OFTEN = 3
"""Confusions that are named."""
FAR = 2.0
"""Points of accuracy between two networks that are more than chance, where one seed alone tells."""


@dataclass(frozen=True)
class Verdict:
    """Of one network.

    Attributes:
        figures: each with what it means.
        sentences: why this network, and what it gets wrong.
        warnings: what these figures do not tell.
    """

    figures: tuple[tuple[str, str], ...] = ()
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def verdict(stages: Sequence[StageSummary], take: StageSummary | None, *, swept: bool = False) -> Verdict:
    """Of the network that a run came to.

    Args:
        take: its stage.
        swept: it is the best point of a sweep, whose table says beside which others.
    """
    if take is None:
        return Verdict()
    found = [*payloads.by_seed(ConfusionPayload, take.rows).values()]
    confusion = summed(found) if found else None
    images = found[0].images if found else None
    return Verdict(
        _figures(take, take.exported(stages), images),
        tuple(filter(None, ("" if swept else _why(take, stages), _wrong(confusion)))),
        (*filter(None, (_small(take, images), _unequal(take))), *_weak_teachers(stages)),
    )


def _figures(stage: StageSummary, exported: StageSummary | None, images: int | None) -> tuple[tuple[str, str], ...]:
    meaning = f"test accuracy of {words.with_weights(stage.stage, stage.counts)}"
    if images and (accuracy := stage.accuracy()):
        low, high = (100 * end for end in share_interval(accuracy.mean / 100, images))
        meaning += f"; on {images:,} images, 95 % interval {low:.1f} to {high:.1f}"
    latency, weights = (exported or stage).mean("latency_ms"), (exported or stage).mean("bytes")
    form = f" as {exported.form}" if exported else ""
    shown = [
        (f"{words.spread(stage.accuracy(), 1)} %", meaning),
        (words.counted(stage.numbers("parameters")), "parameters" + (f", {size(weights)}{form}" if weights else "")),
        (short(stage.mean("multiply_adds")), "multiply-adds"),
        (NONE if latency is None else f"{latency:.2f} ms", f"for one image{form or ', in torch'}"),
    ]
    return tuple((figure, meaning) for figure, meaning in shown if not figure.startswith(NONE))


def _why(stage: StageSummary, stages: Sequence[StageSummary]) -> str:
    """Beside which others the network was chosen; nothing where there is no other of its size."""
    beside = candidates(stages)
    others = [other for other in beside if other.stage != stage.stage]
    score = stage.validation()
    if not others or score is None:
        return ""
    best = max(others, key=lambda other: other.validation() or 0.0)
    of = "" if stage.validated_by == {"accuracy"} else "in the mean over classes "
    why = f"Take {stage.stage}: {of}it recognises {score:.1f} % of the validation images"
    most = max(size for each in beside if (size := each.mean("parameters")) is not None)
    compared = f"{len(beside)} networks of at most {most:,.0f} parameters"
    if best.validation() == score:
        return f"{why}, as does {best.stage}, and none of {compared} more."
    return f"{why}, the most of {compared}; next is {best.stage} with {best.validation():.1f} %."


def _wrong(confusion: ConfusionPayload | None) -> str:
    if confusion is None:
        return ""
    pairs = sorted(
        ((count, row, column) for row, line in enumerate(confusion.matrix) for column, count in enumerate(line)
         if row != column and count), reverse=True
    )  # fmt: skip
    named = [
        f"{confusion.labels[row]} for {confusion.labels[column]} ({count:.0f} of {sum(confusion.matrix[row]):.0f})"
        for count, row, column in pairs[:MOST_OFTEN]
    ]
    return f"It most often takes {', '.join(named)}." if named else "It makes no mistake on the test images."


def _small(stage: StageSummary, images: int | None) -> str:
    accuracy = stage.accuracy()
    if not images or accuracy is None:
        return ""
    low, high = share_interval(accuracy.mean / 100, images)
    if high - low < WIDE:
        return ""
    return (
        f"{images} test images tell an accuracy to ±{50 * (high - low):.0f} points: smaller differences may be chance."
    )


def _unequal(stage: StageSummary) -> str:
    times = max((row.metrics.get("imbalance", 1.0) for row in stage.rows), default=1.0)
    if times < UNEQUAL:
        return ""
    return (
        f"The most frequent class has {times:.1f} times as many test images as the rarest; accuracy flatters a network "
        "that neglects rare ones. See the accuracy of each class; `balance: sampling` or `balance: loss` trains all "
        "alike, and `select: balanced-accuracy` selects so."
    )


def _weak_teachers(stages: Sequence[StageSummary]) -> Iterator[str]:
    """Of each teacher that is clearly less accurate than a network of its student's size is without any."""
    trained = [stage for stage in stages if stage.accuracies()]
    alone = [stage for stage in trained if not any(stage.reads(other, "teacher") for other in stages)]
    told = set[str | None]()
    for teacher in trained:
        students = [stage for stage in trained if stage.reads(teacher, "teacher")]
        equals = (stage for stage in alone if any(stage.same_size(student) for student in students))
        better = next((stage for stage in equals if _is_clearly_better(stage, teacher)), None)
        made = {row.content for row in teacher.rows}
        if better and not made <= told:
            told |= made
            kind = better.counts_beside(teacher)
            has, by_itself = (words.spread(each.accuracy(kind), 1) for each in (teacher, better))
            yield (
                f"{teacher.stage} has {has} %, less than what it teaches has by itself: {by_itself} % "
                f"({better.stage}). Its answers may pull students down; train it for longer or on more images, or "
                "choose another."
            )


def _is_clearly_better(stage: StageSummary, other: StageSummary) -> bool:
    ahead = stage.over(other)
    return ahead is not None and (ahead.mean > FAR if ahead.low is None else ahead.low > 0)
