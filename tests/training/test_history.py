"""What follows from the curves of a training."""

from __future__ import annotations

import pytest

from nasdistill.training.history import History, scores
from nasdistill.training.metrics import Metrics


def metrics(accuracy: float, loss: float, balanced: float) -> Metrics:
    return Metrics(
        accuracy=accuracy,
        balanced_accuracy=balanced,
        loss=loss,
        top5=100.0,
        imbalance=1.0,
        calibration_error=0.0,
        confusion=[],
        bins=[],
    )


def history(*evaluations: tuple[float, float, float], every: int = 1) -> History:
    """From (validation accuracy, validation loss, test accuracy) of each evaluation."""
    made = History()
    for number, (validation, loss, test) in enumerate(evaluations, 1):
        made.add(scores(metrics(validation, loss, 50.0), metrics(test, 1.0, 50.0)), number * every)
    return made


def test_validation_selects_and_a_lower_loss_decides_ties() -> None:
    made = history((90, 0.5, 80), (95, 0.4, 85), (95, 0.3, 84), (95, 0.3, 99), (94, 0.1, 70), every=2)
    assert made.selected == 6
    assert made.accuracy("selected") == {"last": 70, "best": 99, "selected": 84}
    assert made.accuracy("last") == {"last": 70, "best": 99}


@pytest.mark.parametrize(("patience", "stale"), [(None, False), (1, True), (2, True), (3, False)])
def test_patience_counts_evaluations_since_the_selected_one(patience: int | None, stale: bool) -> None:
    assert history((90, 0.5, 0), (95, 0.5, 0), (95, 0.6, 0), (91, 0.2, 0)).stale(patience) is stale


def test_the_mean_over_classes_selects_where_it_is_asked_to() -> None:
    curves = history().curves
    for epoch, (accuracy, balanced) in enumerate([(90, 70), (95, 60), (91, 75), (92, 75), (93, 74)], 1):
        losses = {3: 0.4, 4: 0.3}
        found = scores(metrics(accuracy, losses.get(epoch, 0.1), balanced), metrics(epoch, 1.0, 10 * epoch))
        by_accuracy = History(curves)
        by_accuracy.add(found, epoch)
        curves = by_accuracy.curves
    by_classes = History(curves, "balanced-accuracy")
    assert (by_accuracy.selected, by_classes.selected) == (2, 4)  # 3 and 4 are level, and 4 has the lower loss
    assert by_classes.accuracy("selected") == {"last": 5, "best": 5, "selected": 4}
    kind = {"of": "balanced accuracy"}
    assert by_classes.validation("selected") == {"score": 75, "loss": 0.3, **kind}
    assert by_classes.validation("last") == {"score": 74, "loss": 0.1, **kind}
    assert (by_accuracy.stale(2), by_classes.stale(2)) == (True, False)
    assert by_classes.curves["test/balanced accuracy"] == [[epoch, 10 * epoch] for epoch in range(1, 6)]


def test_the_loss_selects_where_it_is_asked_to() -> None:
    curves = history((90, 0.5, 80), (95, 0.4, 85), (94, 0.3, 84), (93, 0.3, 99), (99, 0.35, 70)).curves
    by_loss = History(curves, "loss")
    assert (History(curves).selected, by_loss.selected) == (5, 3)
    assert by_loss.validation("selected") == {"score": 94, "loss": 0.3}
    assert by_loss.accuracy("selected")["selected"] == 84
    assert [by_loss.stale(patience) for patience in (2, 3)] == [True, False]


def test_a_training_without_evaluations_is_not_stale() -> None:
    assert not History().stale(1)


def test_what_comes_before_a_network_has_its_size_is_not_selected() -> None:
    curves = history((99, 0.1, 98), (90, 0.5, 80), (95, 0.4, 85), (94, 0.3, 84)).curves
    assert [History(curves, after=after).selected for after in (0, 1, 3, 4)] == [1, 3, 4, 0]
    late = History(curves, after=2)
    assert late.accuracy("selected") == {"last": 84, "best": 85, "selected": 85}
    assert late.validation("selected") == {"score": 95, "loss": 0.4}
    assert [late.stale(patience) for patience in (1, 2)] == [True, False]
    assert not History(curves, after=4).stale(1)


def test_without_accuracy_the_validation_loss_selects() -> None:
    made = History()
    for epoch, loss in enumerate((0.5, 0.3, 0.3, 0.4), 1):
        made.add({"validation/loss": loss}, epoch)
    assert made.selected == 2
    assert made.stale(2)
    assert made.accuracy("selected") == {}


def test_it_goes_on_from_its_curves() -> None:
    made = history((90, 0.5, 80), (95, 0.4, 85))
    again = History(made.curves)
    again.add({"test/accuracy": 86.0, "validation/accuracy": 96.0, "validation/loss": 0.3}, 3)
    assert again.plain()["selected_epoch"] == 3
    assert again.curves["test/accuracy"] == [[1, 80], [2, 85], [3, 86.0]]
