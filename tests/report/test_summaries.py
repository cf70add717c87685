from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nasdistill.report.records import Row
from nasdistill.report.summaries import (
    by_stage,
    comparable_pairs,
    paired_difference,
    shipped,
    summarise,
)
from nasdistill.words import share_interval

accuracies = st.floats(0, 100).map(lambda value: round(value, 3))


def row(stage: str, seed: int, accuracy: float | None, parameters: int | None = 100, **more: object) -> Row:
    percent = None if accuracy is None else {"selected": accuracy}
    return Row(stage, "train", seed, parameters=parameters, accuracy=percent, **more)  # type: ignore[arg-type]


def test_mean_and_sample_deviation() -> None:
    summary = summarise([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert summary.mean == 5
    assert summary.deviation == pytest.approx((32 / 7) ** 0.5)  # divisor n - 1
    assert summarise([3.5]).deviation is None


def test_interval_with_the_tabulated_quantile() -> None:
    # Differences 1, 2 and 3: mean 2, s = 1; Student's table has t(0.975, 2) = 4.303.
    difference = paired_difference({0: 11.0, 1: 12.0, 2: 13.0}, {0: 10.0, 1: 10.0, 2: 10.0})
    assert difference is not None
    assert difference.mean == 2
    assert difference.low == pytest.approx(2 - 4.303 / 3**0.5, abs=1e-3)
    assert difference.high == pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3)
    assert not difference.sure  # the interval is -0.48 to 4.48


@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=8))
def test_interval_is_that_of_scipys_paired_test(pairs: list[tuple[float, float]]) -> None:
    first, second = (dict(enumerate(values)) for values in zip(*pairs, strict=True))
    difference = paired_difference(first, second)
    differences = np.array([a - b for a, b in pairs])
    assert difference is not None
    assert difference.mean == pytest.approx(differences.mean(), abs=1e-9)
    if differences.std() > 1e-9:
        interval = stats.ttest_rel(*zip(*pairs, strict=True)).confidence_interval(0.95)
        assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_pairs_are_made_by_seed_and_not_by_order() -> None:
    difference = paired_difference({2: 20.0, 0: 1.0}, {0: 0.0, 1: 7.0, 2: 10.0})
    assert difference is not None
    assert (difference.mean, difference.pairs) == (5.5, 2)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_a_single_pair_allows_no_interval() -> None:
    difference = paired_difference({0: 97.2}, {0: 96.4})
    assert difference is not None
    assert difference.mean == pytest.approx(0.8)
    assert difference.low is None
    assert difference.high is None
    assert not difference.sure


def test_rows_are_gathered_by_stage_in_order_of_appearance() -> None:
    stages = by_stage([row("b", 0, 90.0), row("a", 0, None), row("b", 1, 92.0)])
    assert [stage.stage for stage in stages] == ["b", "a"]
    assert stages[0].accuracies() == {0: 90.0, 1: 92.0}
    assert stages[1].accuracy() is None


def test_only_networks_of_one_size_are_compared() -> None:
    stages = by_stage(
        [row("teacher", 0, 98.0, 200), row("alone", 0, 96.0), row("student", 0, 97.0), row("found", 0, None)]
    )
    pairs = comparable_pairs(stages)
    assert [(later.stage, earlier.stage, difference.mean) for later, earlier, difference in pairs] == [
        ("student", "alone", 1.0)
    ]


def test_like_is_compared_with_like() -> None:
    """Without data nothing is selected: its last accuracy stands beside the last one of a trained network."""
    stages = by_stage(
        [
            Row("alone", "train", 0, 100, accuracy={"last": 90.0, "best": 95.0, "selected": 94.0}),
            Row("taught", "distill", 0, 100, accuracy={"last": 93.0, "best": 97.0, "selected": 96.0}),
            Row("student", "zero-shot", 0, 100, accuracy={"last": 91.0, "best": 92.0}),
        ]
    )
    alone, _taught, student = stages
    assert [stage.counts for stage in stages] == ["selected", "selected", "last"]
    assert [stage.accuracies() for stage in stages] == [{0: 94.0}, {0: 96.0}, {0: 91.0}]
    found = [
        (later.stage, earlier.stage, difference.kind, difference.mean)
        for later, earlier, difference in comparable_pairs(stages)
    ]
    assert found == [
        ("taught", "alone", "selected", 2.0),
        ("student", "alone", "last", 1.0),
        ("student", "taught", "last", -2.0),
    ]
    swapped = alone.over(student)
    assert swapped is not None
    assert (swapped.kind, swapped.mean) == ("last", -1.0)


def test_sizes_are_compared_seed_by_seed() -> None:
    alone, same, other = by_stage(
        [row("alone", 0, 1.0, 10), row("alone", 1, 1.0, 12), row("same", 0, 1.0, 10), row("same", 1, 1.0, 12),
         row("other", 0, 1.0, 12), row("other", 1, 1.0, 10)]
    )  # fmt: skip
    assert same.same_size(alone)
    assert not other.same_size(alone)
    nothing = by_stage([row("unknown", 0, 1.0, None), row("unknown too", 0, 1.0, None)])
    assert not nothing[0].same_size(nothing[1])


def test_a_stage_reads_what_it_was_given() -> None:
    made, user, other = by_stage(
        [row("made", 0, None, content="aa"), row("user", 0, None, inputs={"model": "aa"}), row("other", 0, None)]
    )
    assert user.reads(made)
    assert not other.reads(made)
    assert not made.reads(user)


def test_a_stage_reads_a_teacher_as_such() -> None:
    made, student, of_several = by_stage(
        [row("made", 0, None, content="aa"), row("student", 0, None, inputs={"student": "aa", "teacher": "bb"}),
         row("of several", 0, None, inputs={"teacher.0": "bb", "teacher.1": "aa"})]
    )  # fmt: skip
    assert student.reads(made)
    assert student.reads(made, "student")
    assert not student.reads(made, "teacher")
    assert of_several.reads(made, "teacher")


@pytest.mark.parametrize(("right", "count"), [(0, 9), (9, 9), (1, 3), (87, 118), (4000, 10_000)])
def test_the_interval_of_a_share_is_wilsons(right: int, count: int) -> None:
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert share_interval(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_network_to_ship_is_the_best_by_validation_of_those_no_larger_than_the_last() -> None:
    def trained(stage: str, parameters: int, score: float | None) -> Row:
        validation = {} if score is None else {"validation": {"score": score, "loss": 1.0}}
        return row(stage, 0, 50.0, parameters, metrics=validation)

    teacher, alone, student = trained("teacher", 900, 99.0), trained("alone", 300, 91.0), trained("student", 300, 90.0)

    def name(*rows: Row) -> str | None:
        found = shipped(by_stage(rows))
        return found and found.stage

    assert name(teacher, alone, student) == "alone"
    assert name(teacher, alone, trained("student", 300, 91.0)) == "student"
    assert name(teacher, trained("student", 300, None)) == "student"
    assert name(row("arch", 0, None)) is None


def test_a_network_that_was_left_out_with_some_seeds_or_is_only_evaluated_is_none_to_ship() -> None:
    def validated(stage: str, seed: int, score: float, accuracy: float | None = 80.0) -> Row:
        return row(stage, seed, accuracy, metrics={"validation": {"score": score, "loss": 1.0}})

    rows = [*(validated("first", seed, score) for seed, score in enumerate((98.5, 95, 95))), validated("second", 0, 98)]
    check = [validated("check", seed, 99.0, None) for seed in range(3)]
    found = shipped(by_stage([*rows, *check]))
    assert found is not None
    assert found.stage == "first"


def test_equal_differences_tell_no_interval() -> None:
    difference = paired_difference({0: 90.35, 1: 80.45}, {0: 90.1, 1: 80.2})
    assert difference is not None
    assert (difference.low, difference.pairs, difference.sure) == (None, 2, False)


def test_many_stages_are_compared_with_the_first_two() -> None:
    few = by_stage([row(f"s{number}", 0, 50.0 + number) for number in range(11)])
    assert len(comparable_pairs(few)) == 55
    many = by_stage([row(f"s{number}", 0, 50.0 + number) for number in range(12)])
    found = comparable_pairs(many)
    assert {earlier.stage for _, earlier, _ in found} == {"s0", "s1"}
    assert len(found) == 11 + 10


def test_what_is_exported_tells_how_large_a_network_may_be() -> None:
    def trained(stage: str, parameters: int, score: float) -> Row:
        return row(stage, 0, 50.0, parameters, metrics={"validation": {"score": score, "loss": 1.0}})

    teacher, student, plain = trained("teacher", 900, 99.0), trained("student", 300, 91.0), trained("plain", 299, 80.0)
    told = {"exports": {"onnx": {"file": "network.onnx", "bytes": 1}}}
    product = row("product", 0, 50.0, 300, metrics=told)
    plain_product = row("plain-product", 0, 50.0, 299, metrics=told)
    for rows in ([teacher, student, product, plain, plain_product], [teacher, plain, plain_product, student, product]):
        found = shipped(by_stage(rows))
        assert found is not None
        assert found.stage == "student"
