from __future__ import annotations

import pytest

from nasdistill.report import words
from nasdistill.report.records import Row
from nasdistill.report.summaries import Difference, by_stage, summarise
from nasdistill.words import duration, short, size, whole


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.7, "1 min 0 s"), (252.3, "4 min 12 s"), (3725, "1 h 2 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999"), (52_334, "52.3 k"), (6_103_552, "6.1 M"), (1_814_073_344, "1.81 G")]
)
def test_short_numbers(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(("number", "text"), [(48, "48 B"), (41_792, "41.8 kB"), (1_548_744, "1.55 MB")])
def test_sizes_in_bytes(number: float, text: str) -> None:
    assert size(number) == text


def test_missing_numbers_are_a_dash() -> None:
    missing = [whole(None), short(None), size(None), duration(None)]
    missing += [words.spread(None), words.counted(None)]
    assert missing == ["\N{EN DASH}"] * 6


def test_spread_and_each_value() -> None:
    summary = summarise([97.0, 97.5, 98.0])
    assert words.spread(summary) == "97.50 ± 0.50"
    assert words.each(summary) == "97.00, 97.50, 98.00"
    assert words.spread(summarise([97.0])) == "97.00"
    assert words.each(summarise([97.0])) == ""
    assert words.counted(summarise([52_334, 52_334])) == "52,334"
    assert words.counted(summarise([52_334, 50_000])) == "50,000 to 52,334"


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (Difference(0.8, None, None, 1), "0.80 points over alone"),
        (Difference(-0.8, None, None, 1), "0.80 points under alone"),
        (Difference(0.001, None, None, 1), "level with alone"),
        (Difference(0.8, 0.3, 1.3, 3), "0.80 points over alone (95 % interval +0.30 to +1.30)"),
        (Difference(0.8, -0.1, 1.7, 3), "0.80 points over alone (95 % interval -0.10 to +1.70: it may be chance)"),
    ],
)
def test_differences_in_words(difference: Difference, text: str) -> None:
    assert words.against("alone", difference) == text


def test_a_binary_students_bytes_stand_beside_its_accuracy() -> None:
    accuracy = {"last": 80.0, "best": 80.0, "selected": 80.0}
    rows = [
        Row("real", "train", 0, 1000, accuracy={**accuracy, "selected": 82.5}, metrics={"bytes": 4000}),
        Row("binary", "train", 0, 1000, accuracy=accuracy, metrics={"bytes": 165}),
    ]
    real, binary = by_stage(rows)
    assert words.gain(binary, [real]) == "80.00 % with 165 B of weights, 2.50 points under real."


def test_what_each_step_gain() -> None:
    def percent(value: float) -> dict[str, float | None]:
        return {"last": 1.0, "best": 100.0, "selected": value}

    stages = by_stage(
        [
            Row("found", "search", 0, 50_000, 6_100_000, seconds=38.2, content="s"),
            Row("grown", "grow-teacher", 0, 100_000, 12_200_000, content="g", inputs={"student": "s"}),
            Row("teacher", "train", 0, 100_000, 12_200_000, percent(98.1), content="t", inputs={"model": "g"}),
            Row("alone", "train", 0, 50_000, 6_100_000, percent(96.4), inputs={"model": "s"}),
            Row("student", "distill", 0, 50_000, None, percent(97.2), 60.0, inputs={"student": "s", "teacher": "t"}),
            Row("onnx", "export", 0),
        ]
    )
    assert [words.gain(stage, stages[:number]) for number, stage in enumerate(stages)] == [
        "a network of 50,000 parameters and 6.1 M multiply-adds; 38 s of work.",
        "a network of 100,000 parameters and 12.2 M multiply-adds, 2.00 times found.",
        "98.10 %.",
        "96.40 %.",
        "97.20 %, 0.80 points over alone; teacher, 2.00 times as large, has 98.10 %; 1 min 0 s of work.",
        "",
    ]


def test_a_generation_stands_beside_the_first_and_beside_its_teacher() -> None:
    def generation(name: str, accuracy: float, size: int = 1000, **inputs: str) -> Row:
        return Row(name, "distill", 0, size, accuracy={"selected": accuracy}, content=name, inputs=inputs)

    stages = by_stage(
        [
            generation("ban-0", 80.0),
            generation("ban-1", 81.0, teacher="ban-0"),
            generation("ban-2", 82.5, teacher="ban-1"),
            generation("ban-3", 82.0, **{"teacher.0": "ban-0", "teacher.1": "ban-2"}),
            generation("wide", 84.0, 4000, teacher="ban-3"),
        ]
    )
    assert [words.gain(stage, stages[:number]) for number, stage in enumerate(stages)] == [
        "80.00 %.",
        "81.00 %, 1.00 points over its teacher ban-0.",
        "82.50 %, 2.50 points over ban-0; 1.50 points over its teacher ban-1.",
        "82.00 %, 2.00 points over its teacher ban-0; 0.50 points under its teacher ban-2.",
        "84.00 %; ban-3, 0.25 times as large, has 82.00 %.",
    ]


def test_a_stage_that_was_left_out_with_some_seeds_says_so() -> None:
    rows = [Row("first", "search", seed, 10) for seed in range(3)] + [Row("second", "search", 1, 10)]
    first, second = by_stage(rows)
    assert words.gain(first, []) == "a network of 10 parameters."
    assert words.gain(second, [first]) == "a network of 10 parameters; ran with 1 of 3 seeds."


def test_a_student_without_data_is_beside_the_last_weights_of_the_others() -> None:
    rows = [
        Row("teacher", "train", 0, 2000, accuracy={"last": 97.0, "best": 99.0, "selected": 98.0}, content="t"),
        Row("alone", "train", 0, 1000, accuracy={"last": 90.0, "best": 95.0, "selected": 94.0}),
        Row("student", "zero-shot", 0, 1000, accuracy={"last": 88.5, "best": 92.0}, inputs={"teacher": "t"}),
    ]
    *earlier, student = by_stage(rows)
    assert words.gain(student, earlier) == (
        "88.50 % (last weights), 1.50 points under alone (last weights); "
        "teacher (last weights), 2.00 times as large, has 97.00 %."
    )


def test_collapses_and_early_ends_are_told() -> None:
    def told(*metrics: dict[str, object]) -> str:
        rows = [Row("student", "zero-shot", seed, 1000, metrics=found) for seed, found in enumerate(metrics)]
        return words.gain(by_stage(rows)[0], [])

    size = "a network of 1,000 parameters"
    assert told({"collapses": []}) == told({"collapses": 3}) == f"{size}."
    assert told({"collapses": [1050]}) == f"{size}; collapsed after 1,050 pseudo-batches."
    assert told({"collapses": [50, 90, 200]}) == f"{size}; collapsed after 50 pseudo-batches and 2 times more."
    assert told({"collapses": [50], "stopped": "why"}, {"collapses": []}, {"collapses": [90]}) == (
        f"{size}; seed 0 ended early: why; seed 2 collapsed after 90 pseudo-batches."
    )
