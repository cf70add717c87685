"""The first lines of a page: what to take, how sure that is, and what it gets wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.base import Data
from nasdistill.report.records import Row
from nasdistill.report.sections import Found
from nasdistill.report.sections.mistakes import Mistakes, MistakesPayload
from nasdistill.report.summaries import StageSummary, shipped
from nasdistill.report.verdict import Verdict, verdict
from nasdistill.stages.mistakes import worst_mistakes
from tests.report.fakes import write_artifact
from tests.stages.parts import context_in, few_digits


def stage(
    folder: Path, name: str, score: float, matrix: list[list[int]], of: str = "accuracy", **metrics: Any
) -> StageSummary:
    labels = ["cat", "dog", "emu"]
    content = {"confusion.json": {"labels": labels, "matrix": matrix}}
    folder = write_artifact(folder, name, "train", 0, content, {}, {}, {}).folder
    right = sum(matrix[k][k] for k in range(3)) / sum(map(sum, matrix))
    row = Row(
        name, "train", 0, parameters=300, accuracy={"selected": 100 * right}, latency_ms=1.5,
        metrics={"validation": {"score": score, "loss": 1.0, "of": of}, **metrics}, folder=folder,
    )  # fmt: skip
    return StageSummary(name, "train", (row,))


def test_it_names_the_network_the_interval_the_confusions_and_what_is_unequal(tmp_path: Path) -> None:
    alone = stage(tmp_path, "alone", 80.0, [[8, 2, 0], [0, 4, 0], [0, 0, 4]])
    student = stage(tmp_path, "student", 85.0, [[5, 4, 1], [2, 2, 0], [0, 0, 4]], imbalance=2.5)
    found = verdict([alone, student], student)
    (accuracy, meaning), *others = found.figures
    assert accuracy == "61.1 %"
    assert meaning == "test accuracy of student; on 18 images, 95 % interval 38.6 to 79.7"
    assert ("1.50 ms", "for one image, in torch") in others
    why, wrong = found.sentences
    assert why.startswith("Take student: it recognises 85.0 %")
    assert "next is alone with 80.0 %" in why
    assert wrong == "It most often takes cat for dog (4 of 10), dog for cat (2 of 4), cat for emu (1 of 10)."
    few, unequal = found.warnings
    assert few.startswith("18 test images tell an accuracy to ±21 points")
    assert "2.5 times as many" in unequal
    assert "`balance: sampling`" in unequal


def test_it_says_that_another_network_is_as_good(tmp_path: Path) -> None:
    stages = [stage(tmp_path, name, 80.0, [[8, 2, 0], [0, 4, 0], [0, 0, 4]]) for name in ("alone", "student")]
    found = verdict(stages, stages[1])
    assert found.sentences[0] == (
        "Take student: it recognises 80.0 % of the validation images, as does alone, and none of 2 networks of at most "
        "300 parameters more."
    )


def test_scores_of_two_kinds_choose_nothing(tmp_path: Path) -> None:
    right, kind = [[8, 2, 0], [0, 4, 0], [0, 0, 4]], "balanced accuracy"
    plain, *balanced = (
        stage(tmp_path, *of) for of in [("a", 95.0, right), ("b", 80.0, right, kind), ("c", 70.0, right, kind)]
    )
    assert shipped([plain, *balanced]) == balanced[-1]
    assert shipped(balanced) == balanced[0]
    assert not any(sentence.startswith("Take") for sentence in verdict([plain, *balanced], balanced[-1]).sentences)
    assert (
        verdict(balanced, balanced[0]).sentences[0].startswith("Take b: in the mean over classes it recognises 80.0 %")
    )


def test_a_large_test_set_warns_of_nothing(tmp_path: Path) -> None:
    student = stage(tmp_path, "student", 85.0, [[4000, 0, 0], [0, 4000, 0], [0, 0, 4000]])
    found = verdict([student], student)
    assert (found.sentences, found.warnings) == (("It makes no mistake on the test images.",), ())
    assert verdict([], None) == Verdict()


def lesson(name: str, accuracies: list[float], parameters: int = 300, **inputs: str) -> StageSummary:
    rows = (
        Row(name, "train", seed, parameters, accuracy={"last": each}, content=f"{name}-{seed}", inputs=inputs)
        for seed, each in enumerate(accuracies)
    )
    return StageSummary(name, "train", tuple(rows))


def test_it_warns_of_a_teacher_that_is_clearly_behind_its_student_untaught() -> None:
    alone, other = lesson("alone", [50.0, 51.0, 52.0]), lesson("other", [90.0, 91.0, 92.0], parameters=200)
    student = lesson("student", [45.0, 46.0, 47.0], teacher="teacher-0")

    def warnings(*accuracies: float, seeds: int = 3) -> tuple[str, ...]:
        stages = [lesson("teacher", [*accuracies], parameters=900), alone, other, student]
        stages = [StageSummary(each.stage, each.uses, each.rows[:seeds]) for each in stages]
        return verdict(stages, stages[-1]).warnings

    (warning,) = warnings(40.0, 41.0, 42.0)
    assert warning.startswith(
        "teacher has 41.0 ± 1.0 %, less than what it teaches has by itself: 51.0 ± 1.0 % (alone)."
    )
    assert warnings(40.0, 51.0, 62.0) == ()  # seeds differ by more
    assert warnings(60.0, 61.0, 62.0) == ()
    assert len(warnings(47.0, seeds=1)) == 1
    assert warnings(49.0, seeds=1) == ()  # as near as chance brings one seed


@pytest.fixture(scope="module")
def data() -> Data:
    return few_digits()


def test_the_worst_mistakes_are_the_surest_with_their_images(tmp_path: Path, data: Data) -> None:
    truth = data.test.labels
    logits = torch.zeros(len(truth), 10)
    logits[torch.arange(len(truth)), truth] = 1.0
    for index, sure in ((7, 5.0), (3, 9.0), (60, 7.0)):
        logits[index] = 0.0
        logits[index, (truth[index] + 1) % 10] = sure
    engine = context_in(tmp_path, data).engine
    found = worst_mistakes(data.test, data, engine, logits)
    assert (found["images"], found["wrong"]) == (80, 3)
    assert [each["index"] for each in found["worst"]] == [3, 60, 7]
    first = found["worst"][0]
    assert (first["label"], first["answer"]) == (data.classes[truth[3]], data.classes[(truth[3] + 1) % 10])
    assert first["confidence"] == pytest.approx(float(logits[3].softmax(0).max()))
    pixels = bytes.fromhex("".join(first["pixels"][0]))
    assert list(pixels) == data.test.images[3].flatten().tolist()  # type: ignore[union-attr]

    payload = MistakesPayload.model_validate(found)
    (group,) = Mistakes().groups([Found(StageSummary("student", "train", ()), {0: payload})])
    assert len(group.pictures) == 3
    assert "3 of 80 are wrong" in group.note
    assert f"taken for {first['answer']}" in group.pictures[0]
    right = torch.nn.functional.one_hot(truth, 10).float()
    none = MistakesPayload.model_validate(worst_mistakes(data.test, data, engine, right))
    (group,) = Mistakes().groups([Found(StageSummary("student", "train", ()), {0: none})])
    assert group.pictures == ()
