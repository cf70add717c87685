from __future__ import annotations

import doctest
from types import SimpleNamespace
from typing import Any

import nasdistill.report.sections.curves
from nasdistill.report.payloads import HistoryPayload
from nasdistill.report.sections import Found
from nasdistill.report.sections.curves import Curves, panel_of, panels


def test_the_examples_hold() -> None:
    result = doctest.testmod(nasdistill.report.sections.curves)
    assert (result.failed, result.attempted) == (0, 7)


def test_names_of_no_known_form_have_a_picture_too() -> None:
    assert panel_of("alpha/normal") == ("alpha", "normal")
    assert panel_of("a/b/c") == ("a", "b/c")
    assert panel_of("answers/agreement") == ("agreement", "agreement")
    assert panel_of("learning rate/student") == ("learning rate", "student")


def test_balanced_accuracy_has_a_picture_where_it_departs_from_accuracy() -> None:
    plain = {"test/accuracy": [(1, 90.0), (2, 95.0)], "test/balanced accuracy": [(1, 88.5), (2, 94.0)]}
    other = {**plain, "test/balanced accuracy": [(1, 87.5), (2, 94.0)]}
    assert list(panels([plain, plain])) == ["accuracy"]
    found = panels([plain, other])
    assert list(found) == ["accuracy", "balanced accuracy"]
    assert found["balanced accuracy"] == {"test": [plain["test/balanced accuracy"], other["test/balanced accuracy"]]}


def test_regret_is_drawn_over_what_the_search_counted() -> None:
    curves = {"regret/CIFAR-10": [(1.0, 9.0), (4.0, 1.0)], "train/loss": [(1.0, 2.0), (2.0, 1.0)]}
    stage: Any = SimpleNamespace(stage="search")
    (group,) = Curves().groups([Found(stage, {0: HistoryPayload(curves=curves, found_x="trial")})])
    assert [(">epoch<" in picture, ">trial<" in picture) for picture in group.pictures] == [
        (True, False),
        (False, True),
    ]


def test_seeds_share_a_picture_and_losses_come_first() -> None:
    one = {"learning rate": [(1, 0.1)], "test/accuracy": [(1, 90.0)], "train/kd": [(1, 2.0)], "never": []}
    other = {"test/accuracy": [(1, 91.0)]}
    found = panels([one, other])
    assert list(found) == ["loss", "accuracy", "learning rate"]
    assert found["accuracy"] == {"test": [[(1, 90.0)], [(1, 91.0)]]}
