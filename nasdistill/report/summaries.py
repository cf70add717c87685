"""Several seeds of a stage in a few numbers: mean, deviation, and how sure a difference is."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from nasdistill.report.records import Row

CONFIDENCE = 0.95
COUNTING = ("selected", "last")
"""Accuracies that networks are compared by: the one that validation selected, else that of the last weights."""
EQUAL = 1e-9
"""A deviation that is none: sums of equal numbers differ in their last bits."""
MOST_PAIRS = 60
"""Differences that a page shows at most, one by one."""
OTHER_IMAGES = ("validation", "train")
"""What a stage may evaluate on beside the test images."""


@dataclass(frozen=True)
class Summary:
    """Numbers of one kind over seeds.

    Attributes:
        deviation: the sample standard deviation (divisor n - 1); None for a single number.
    """

    mean: float
    deviation: float | None
    values: tuple[float, ...]


def summarise(values: Sequence[float]) -> Summary:
    """Mean and sample standard deviation of at least one number."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), deviation, tuple(values))


def summary_of(values: Iterable[float | None]) -> Summary | None:
    """The summary of the numbers that are there; None where none is."""
    known = [value for value in values if value is not None]
    return summarise(known) if known else None


@dataclass(frozen=True)
class Difference:
    """How much one stage is over another, in the unit of the numbers.

    Attributes:
        low, high: the ends of the 95 % confidence interval; None with a single pair.
        pairs: number of seeds that both stages have.
        kind: which accuracy of both was taken.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int
    kind: str = COUNTING[0]

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_difference(values: Mapping[int, float], others: Mapping[int, float]) -> Difference | None:
    """The mean of `values - others` over the seeds that both have, with Student's t interval of paired samples.

    The interval is `mean ± t(0.975, n - 1) * s / sqrt(n)`, where s is the sample deviation of the n differences
    (Student 1908). Pairing by seed takes out what the seeds share: the split, the searched student.

    Returns:
        None where no seed is shared; without an interval where all differences are the same, which tell no deviation.
    """
    differences = [values[seed] - others[seed] for seed in sorted(values.keys() & others.keys())]
    if not differences:
        return None
    summary = summarise(differences)
    if summary.deviation is None or summary.deviation < EQUAL:
        return Difference(summary.mean, None, None, len(differences))
    from scipy.special import stdtrit  # the quantile alone; scipy.stats takes a second to import

    count = len(differences)
    quantile = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2))
    half = quantile * summary.deviation / math.sqrt(count)
    return Difference(summary.mean, summary.mean - half, summary.mean + half, count)


@dataclass(frozen=True)
class StageSummary:
    """All seeds of one stage."""

    stage: str
    uses: str
    rows: tuple[Row, ...]

    def numbers(self, field: str) -> Summary | None:
        """A field of the rows such as `parameters`, over the seeds that have it."""
        return summary_of(getattr(row, field) for row in self.rows)

    def mean(self, field: str) -> float | None:
        summary = self.numbers(field)
        return summary.mean if summary else None

    @property
    def counts(self) -> str:
        """The accuracy that this stage is compared by: `last` where it selects nothing, as without data."""
        return next((kind for kind in COUNTING if self.accuracies(kind)), COUNTING[0])

    def counts_beside(self, other: StageSummary) -> str:
        """The accuracy that both stages have, so that like is compared with like."""
        return max(self.counts, other.counts, key=COUNTING.index)

    def accuracies(self, kind: str | None = None) -> dict[int, float]:
        """Accuracy by seed, in percent; the one that counts unless another is asked for."""
        kind = kind or self.counts
        found = {row.seed: row.accuracy.get(kind) for row in self.rows if row.accuracy}
        return {seed: value for seed, value in found.items() if value is not None}

    def accuracy(self, kind: str | None = None) -> Summary | None:
        return summary_of(self.accuracies(kind).values())

    def validation(self) -> float | None:
        """The mean score of the kept weights on the validation images, in percent, where it selects."""
        scores = [row.metrics.get("validation", {}).get("score") for row in self.rows]
        found = summary_of(scores if self.counts == "selected" else [])
        return None if found is None else found.mean

    @property
    def validated_by(self) -> set[str]:
        """What its validation scores are of."""
        return {row.metrics.get("validation", {}).get("of", "accuracy") for row in self.rows}

    def accuracy_on(self, part: str) -> Summary | None:
        """Of a stage that evaluates on those of `OTHER_IMAGES`, in percent."""
        return summary_of(row.metrics["accuracy"]["last"] for row in self.rows if row.metrics.get("part") == part)

    def on_test(self, metric: str) -> Summary | None:
        """A metric of the kept weights, over the seeds that have it for the test images."""
        return summary_of(row.metrics.get(metric) for row in self.rows if row.accuracy)

    def over(self, other: StageSummary) -> Difference | None:
        """How many points of accuracy this stage has over `other`, by paired seeds."""
        kind = self.counts_beside(other)
        difference = paired_difference(self.accuracies(kind), other.accuracies(kind))
        return difference and replace(difference, kind=kind)

    def reads(self, other: StageSummary, field: str | None = None) -> bool:
        """Whether this stage was given what `other` made, with any seed; for a certain `field` if named."""
        made = {row.content for row in other.rows if row.content is not None}
        inputs = [item for row in self.rows for item in row.inputs.items()]
        return any(content in made and field in (None, name.partition(".")[0]) for name, content in inputs)

    def exported(self, stages: Sequence[StageSummary]) -> StageSummary | None:
        """Itself or the last of `stages` that wrote its network for other programs; None where none did."""
        return next(
            (other for other in (self, *reversed(stages)) if other.form and (other is self or other.reads(self))), None
        )

    def to_ask(self, stages: Sequence[StageSummary]) -> Row:
        """Of the first seed: what this network was exported as, see `exported`, or itself."""
        return (self.exported(stages) or self).rows[0]

    @property
    def form(self) -> str | None:
        """The first format that it exports, where it does: the one that its size and latency are of."""
        return next(iter(self.rows[0].exports), None)

    def same_size(self, other: StageSummary) -> bool:
        """Whether both have the same number of parameters with every seed that both have."""
        sizes = {row.seed: row.parameters for row in self.rows}
        others = {row.seed: row.parameters for row in other.rows}
        shared = sizes.keys() & others.keys()
        return bool(shared) and all(sizes[seed] is not None and sizes[seed] == others[seed] for seed in shared)


def by_stage(rows: Sequence[Row]) -> list[StageSummary]:
    """The rows gathered by stage and point of a sweep, in order of first appearance."""
    gathered: dict[str, list[Row]] = {}
    for row in rows:
        gathered.setdefault(row.label, []).append(row)
    return [StageSummary(stage, found[0].uses, tuple(found)) for stage, found in gathered.items()]


def candidates(stages: Sequence[StageSummary]) -> list[StageSummary]:
    """The networks that may be taken: those with a validation score for every seed that are small enough.

    That is no larger than the largest that is exported, or than the last trained one where none is; others may be
    teachers, or be too large. None may where the scores are of several kinds, so that nobody can compare them.
    """
    trained = [stage for stage in stages if stage.accuracies()]
    seeds = {row.seed for stage in stages for row in stage.rows}
    whole = [stage for stage in trained if {row.seed for row in stage.rows} == seeds]
    wanted = [stage for stage in trained if stage.form] or trained[-1:]
    limit = max((size for stage in wanted if (size := stage.mean("parameters")) is not None), default=-math.inf)
    sizes = [(stage, stage.mean("parameters")) for stage in whole if stage.validation() is not None]
    found = [stage for stage, size in sizes if size is not None and size <= limit]
    return found if one_score(found) else []


def one_score(stages: Sequence[StageSummary]) -> bool:
    """Whether their validation scores are of one kind."""
    return len(set().union(*(stage.validated_by for stage in stages))) <= 1


def shipped(stages: Sequence[StageSummary]) -> StageSummary | None:
    """The network to take: the best candidate by validation, of equals the later; the last trained one without any."""
    last = next((stage for stage in reversed(stages) if stage.accuracies()), None)
    return max(reversed(candidates(stages)), key=lambda stage: stage.validation() or 0.0, default=last)


def comparable_pairs(stages: Sequence[StageSummary]) -> list[tuple[StageSummary, StageSummary, Difference]]:
    """Every two stages that trained networks of one size: the later one, the earlier one, the difference.

    An export is beside what it was made of in the table of exported files.

    Where these are more than a page can show, as in a sweep of many values, each with the first two of its size alone.
    """
    beside: dict[str, list[tuple[StageSummary, StageSummary]]] = defaultdict(list)
    pairs = combinations([stage for stage in stages if stage.accuracies()], 2)
    alike = [
        (later, earlier) for earlier, later in pairs if later.same_size(earlier)
        if not (later.form and later.reads(earlier))
    ]  # fmt: skip
    for pair in alike:
        beside[pair[0].stage].append(pair)
    shown = alike if len(alike) <= MOST_PAIRS else [pair for found in beside.values() for pair in found[:2]]
    differences = ((later, earlier, later.over(earlier)) for later, earlier in shown)
    return [(later, earlier, difference) for later, earlier, difference in differences if difference is not None]
