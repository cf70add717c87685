"""The loop against plain torch written out, and what it must never do."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.errors import UserError
from nasdistill.training.batches import Batch
from nasdistill.training.fit import Fitted, fit
from nasdistill.training.losses import Diverged
from nasdistill.training.settings import TrainingSettings
from nasdistill.training.tasks import Supervised, Task
from tests.training.parts import FixedBatches, blobs, engine, settings, surroundings, two_layers

TRAIN = FixedBatches(*blobs(60, seed=0), batch_size=20)
VALIDATION = FixedBatches(*blobs(45, seed=1), batch_size=20)
PLAIN = {"name": "sgd", "lr": 0.1, "momentum": 0, "nesterov": False}
TEST = FixedBatches(*blobs(45, seed=2), batch_size=20)


def run(folder: Path, task: Task, options: TrainingSettings, test: FixedBatches = TEST) -> Fitted:
    return fit(task, TRAIN, VALIDATION, test, options, engine(), *surroundings(folder))


def plain_torch(epochs: int, clip: float | None = None, smoothing: float = 0.0) -> list[dict[str, torch.Tensor]]:
    """The weights after each step of the loop that everybody writes, with our defaults."""
    network = two_layers()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(TRAIN))
    after: list[dict[str, torch.Tensor]] = []
    for epoch in range(epochs):
        for images, labels, *_ in TRAIN.epoch(epoch):
            optimizer.zero_grad()
            functional.cross_entropy(network(images), labels, label_smoothing=smoothing).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            schedule.step()
            after.append({name: value.clone() for name, value in network.state_dict().items()})
    return after


def accuracy(weights: dict[str, torch.Tensor], batches: FixedBatches) -> float:
    network = two_layers()
    network.load_state_dict(weights)
    right = [(network(images).argmax(1) == labels).double() for images, labels, *_ in batches.epoch(0)]
    return 100 * float(torch.cat(right).mean())


def test_default_training_is_the_plain_loop(tmp_path: Path) -> None:
    task = Supervised(two_layers())
    fitted = run(tmp_path, task, settings(epochs=4, keep="last"))
    torch.testing.assert_close(dict(task.network.state_dict()), plain_torch(4)[-1])
    assert [epoch for epoch, _ in fitted.history["curves"]["test/accuracy"]] == [1, 2, 3, 4]


def test_nothing_is_on_disk_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = Supervised(two_layers())
    fit(task, TRAIN, VALIDATION, TEST, settings(epochs=2, keep="last"), engine())
    torch.testing.assert_close(dict(task.network.state_dict()), plain_torch(2)[-1])
    assert list(tmp_path.iterdir()) == []


def test_clip_and_label_smoothing_are_torchs(tmp_path: Path) -> None:
    task = Supervised(two_layers(), label_smoothing=0.2)
    run(tmp_path, task, settings(epochs=2, keep="last", clip=0.1))
    torch.testing.assert_close(dict(task.network.state_dict()), plain_torch(2, clip=0.1, smoothing=0.2)[-1])


def test_average_of_weights_is_the_closed_form(tmp_path: Path) -> None:
    task = Supervised(two_layers())
    fitted = run(tmp_path, task, settings(epochs=3, keep="last", ema=0.8))
    steps = plain_torch(3)
    expected = steps[0]
    for weights in steps[1:]:
        expected = {name: 0.8 * value + 0.2 * weights[name] for name, value in expected.items()}
    torch.testing.assert_close(dict(task.network.state_dict()), expected)
    assert fitted.accuracy["last"] == pytest.approx(accuracy(expected, TEST))


def test_last_best_and_selected_are_what_they_say(tmp_path: Path) -> None:
    epochs = 12
    task = Supervised(two_layers())
    fitted = run(tmp_path, task, settings(epochs=epochs))
    after = plain_torch(epochs)[len(TRAIN) - 1 :: len(TRAIN)]
    tests = [accuracy(weights, TEST) for weights in after]
    validations = [accuracy(weights, VALIDATION) for weights in after]
    assert fitted.accuracy["last"] == pytest.approx(tests[-1])
    assert fitted.accuracy["best"] == pytest.approx(max(tests))
    assert fitted.accuracy["selected"] == pytest.approx(tests[fitted.best_epoch - 1])
    assert validations[fitted.best_epoch - 1] == max(validations)
    torch.testing.assert_close(dict(task.network.state_dict()), after[fitted.best_epoch - 1])


def test_the_test_images_select_nothing(tmp_path: Path) -> None:
    images = torch.cat([batch.images for batch in TEST.epoch(0)])
    shuffled = FixedBatches(images, TEST.labels.roll(1), 20)
    one, other = Supervised(two_layers()), Supervised(two_layers())
    first = run(tmp_path / "one", one, settings(epochs=6, patience=2))
    second = run(tmp_path / "other", other, settings(epochs=6, patience=2), test=shuffled)
    assert first.best_epoch == second.best_epoch
    assert first.accuracy != second.accuracy
    torch.testing.assert_close(one.network.state_dict(), other.network.state_dict(), rtol=0, atol=0)


class Forgetful(Task):
    """Learns for two epochs, then is pulled away from what it learned."""

    steps = 0

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.steps += 1
        sign = 1 if self.steps <= 2 * len(TRAIN) else -1
        return {"cross-entropy": sign * functional.cross_entropy(self.network(batch.images), batch.labels)}


def test_early_stopping_restores_the_best_weights(tmp_path: Path) -> None:
    options = settings(epochs=50, patience=3, schedule="constant", optimizer=PLAIN)
    task = Forgetful(two_layers())
    fitted = run(tmp_path, task, options)
    assert fitted.best_epoch == 2
    assert len(fitted.history["curves"]["validation/accuracy"]) == 2 + 3
    kept = accuracy(dict(task.network.state_dict()), VALIDATION)
    assert kept == pytest.approx(fitted.history["curves"]["validation/accuracy"][1][1])
    assert kept > fitted.history["curves"]["validation/accuracy"][-1][1]


def test_evaluations_are_as_often_as_asked_and_at_the_end(tmp_path: Path) -> None:
    fitted = run(tmp_path, Supervised(two_layers()), settings(epochs=5, evaluate_every=2))
    assert [epoch for epoch, _ in fitted.history["curves"]["validation/accuracy"]] == [2, 4, 5]
    assert [epoch for epoch, _ in fitted.history["curves"]["train/cross-entropy"]] == [1, 2, 3, 4, 5]


class Watching(Supervised):
    """Notes in which mode its network is when it is trained."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.modes: list[bool] = []

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.modes.append(self.network.training)
        return super().forward(batch)


def test_the_student_is_in_training_mode_in_every_step(tmp_path: Path) -> None:
    task = Watching(two_layers())
    run(tmp_path, task, settings(epochs=3))
    assert task.modes == [True] * 3 * len(TRAIN)


class Dropping(nn.Sequential):
    """Has drop path, and notes what it is set to."""

    drop_path = 0.3

    def __init__(self) -> None:
        super().__init__(*two_layers())
        self.probabilities: list[float] = []

    def set_drop_path(self, probability: float) -> None:
        self.probabilities.append(probability)


def test_drop_path_rises_linearly_with_the_epochs(tmp_path: Path) -> None:
    network = Dropping()
    run(tmp_path, Supervised(network), settings(epochs=4))
    assert network.probabilities == pytest.approx([0.0, 0.075, 0.15, 0.225])


class Pooling(nn.Sequential):
    """Reads images of any size, and notes which."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        self.seen: list[tuple[bool, int]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.training, images.shape[-1]))
        found: torch.Tensor = super().forward(images)
        return found


def test_images_grow_while_a_network_trains_and_are_whole_when_it_is_scored(tmp_path: Path) -> None:
    network = Pooling()
    run(tmp_path, Supervised(network), settings(epochs=5, scales=[0.5, 2, 1]))
    trained = [side for training, side in network.seen if training]
    assert trained[:: len(TRAIN)] == [1, 1, 4, 4, 2]
    assert {side for training, side in network.seen if not training} == {2}
    network.train()(blobs(2)[0])
    assert network.seen[-1] == (True, 2)


def test_biases_of_batch_norms_learn_at_a_rate_of_their_own(tmp_path: Path) -> None:
    moved = []
    for rate in (1.0, 16.0):
        torch.manual_seed(0)
        network, first = Pooling(), FixedBatches(*blobs(20), batch_size=20)
        before = copy.deepcopy(network.state_dict())
        options = settings(epochs=1, norm_bias_rate=rate, optimizer=PLAIN, schedule="constant", keep="last")
        fit(Supervised(network), first, VALIDATION, TEST, options, engine(), *surroundings(tmp_path / str(rate)))
        moved.append({name: value - before[name] for name, value in network.state_dict().items() if value.ndim})
    assert {name for name in moved[0] if not torch.allclose(*(each[name] for each in moved))} == {"1.bias"}
    torch.testing.assert_close(moved[1]["1.bias"], 16 * moved[0]["1.bias"])


class Breaking(Supervised):
    """Gives what it is told from a step on."""

    def __init__(self, step: int, factor: float) -> None:
        super().__init__(two_layers())
        self.left = step
        self.factor = factor

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.left -= 1
        losses = super().forward(batch)
        return {name: loss * (self.factor if self.left <= 0 else 1) for name, loss in losses.items()}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_its_step(tmp_path: Path, value: float) -> None:
    with pytest.raises(Diverged, match=r"cross-entropy loss is (nan|inf) at step 5; there is no checkpoint yet"):
        run(tmp_path, Breaking(5, value), settings(epochs=4))


def test_what_a_task_reports_is_a_curve_and_no_part_of_the_loss() -> None:
    class Telling(Supervised):
        def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
            self.report("first index", batch.indices[0])
            return super().forward(batch)

    batches, fitted = FixedBatches(*blobs(9), 3), []
    for kind in (Supervised, Telling):
        fitted.append(
            fit(kind(two_layers()), batches, batches, batches, settings(epochs=2), engine()).history["curves"]
        )
    assert fitted[1].pop("first index") == [[1, 3.0], [2, 3.0]]  # of 0, 3 and 6
    assert fitted[0] == fitted[1]


def test_what_a_task_returns_as_a_loss_must_be_one() -> None:
    class Detached(Supervised):
        def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
            return {name: loss.detach() for name, loss in super().forward(batch).items()}

    with pytest.raises(UserError, match=r"task, 'cross-entropy', \(Detached, .*test_fit\.py, line \d+\) must be"):
        fit(Detached(two_layers()), FixedBatches(*blobs(6), 3), *[FixedBatches(*blobs(6), 3)] * 2, settings(), engine())


def test_the_last_good_checkpoint_is_named_and_good(tmp_path: Path) -> None:
    checkpoints, records = surroundings(tmp_path, every_seconds=0)
    with pytest.raises(Diverged, match="at step 5") as caught:
        fit(Breaking(5, math.nan), TRAIN, VALIDATION, TEST, settings(epochs=4), engine(), checkpoints, records)
    assert checkpoints.newest is not None
    assert str(checkpoints.newest) in str(caught.value)
    state = checkpoints.load()
    assert state is not None
    assert (state["course"]["epoch"], state["course"]["position"]) == (1, 1)
    assert all(value.isfinite().all() for value in state["task"].values())


def test_weights_that_broke_in_the_last_step_are_not_saved(tmp_path: Path) -> None:
    checkpoints, records = surroundings(tmp_path, every_seconds=0)
    task = Breaking(1, 1e30)  # the loss is finite, its gradient overflows the weights
    options = settings(epochs=2, clip=None, optimizer={"name": "sgd", "lr": 1e30})
    with pytest.raises(Diverged, match="is not finite after step 1"):
        fit(task, TRAIN, VALIDATION, TEST, options, engine(), checkpoints, records)
    assert checkpoints.load() is None


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    network = two_layers()
    network[1].requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    run(tmp_path, Supervised(network), settings(epochs=1, keep="last"))
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"3.weight", "3.bias"}
