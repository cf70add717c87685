"""Factor transfer: its distance by hand, a paraphraser that restores its teacher's map, and one that diverges."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.ft import Factors, factor_distance
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from tests.distill.features import batches, bound, drawn, loss_of, network, optimizer_of, train
from tests.distill.nets import TwoMaps

SHAPE = (1, 6, 6)


def task_of(**options: object) -> tuple[Distillation, Factors]:
    torch.manual_seed(0)
    spec = {"name": "ft", **options}
    task = Distillation(TwoMaps(), [Teacher(TwoMaps(channels=8))], [OBJECTIVES.parse(spec)], SHAPE)
    factors = task.learned["ft"]
    assert isinstance(factors, Factors)
    return task, factors


def numpy_distance(student: torch.Tensor, teacher: torch.Tensor) -> float:
    ours, theirs = (each.detach().numpy().reshape(len(each), -1) for each in (student, teacher))
    units = [each / np.sqrt((each**2).sum(axis=1, keepdims=True)) for each in (ours, theirs)]
    return float(np.abs(units[0] - units[1]).mean())


def test_two_factors_by_hand() -> None:
    """(3, 4) and (1, 0): |3/5 - 1| + |4/5 - 0|, over two values."""
    found = factor_distance(torch.tensor([3.0, 4.0]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2))
    assert float(found) == pytest.approx((2 / 5 + 4 / 5) / 2)


def test_it_is_the_mean_over_values_of_factors_of_length_one() -> None:
    student, teacher = drawn(0, 3, 4, 2, 2).requires_grad_(), drawn(1, 3, 4, 2, 2)
    assert float(factor_distance(student, teacher).detach()) == pytest.approx(numpy_distance(student, teacher))
    large = drawn(2, 3, 4, 4, 4)
    averaged = large.reshape(3, 4, 2, 2, 2, 2).mean(dim=(3, 5))
    assert float(factor_distance(large, teacher)) == pytest.approx(numpy_distance(averaged, teacher))
    assert torch.autograd.gradcheck(lambda given: factor_distance(given, teacher), student)


def test_a_step_compares_the_translation_with_the_paraphrase() -> None:
    """Three convolutions of 3x3 on each side, to half of the teacher's channels; the last feature points by default."""
    term = bound("ft", TwoMaps(), TwoMaps(channels=8), SHAPE)
    assert (term.student_points, term.teacher_points) == (("second",), ("second",))
    assert isinstance(term.loss, Factors)
    loss = term.loss.double()
    given = {"translator": drawn(0, 2, 4, 3, 3), "paraphraser": drawn(1, 2, 8, 3, 3)}
    widths = {"translator": [(4, 4), (4, 4), (4, 4)], "paraphraser": [(8, 8), (8, 4), (4, 4)]}
    factors = {}
    for name, maps in given.items():
        convolutions = [layer for layer in loss.get_submodule(name) if hasattr(layer, "weight")]  # type: ignore[union-attr]
        assert [(layer.in_channels, layer.out_channels) for layer in convolutions] == widths[name]
        for layer in convolutions:
            maps = functional.leaky_relu(functional.conv2d(maps, layer.weight, layer.bias, padding=1), 0.1)
        factors[name] = maps
    found = loss_of(term, [given["translator"]], [given["paraphraser"]])
    assert float(found.detach()) == pytest.approx(numpy_distance(*factors.values()), rel=1e-10)


@pytest.mark.parametrize(("rate", "factors"), [(0.25, 2), (1, 8), (0.01, 1)])
def test_the_rate_decides_a_factors_channels(rate: float, factors: int) -> None:
    _task, loss = task_of(rate=rate)
    for side in (loss.paraphraser, loss.translator):
        assert side[-2].out_channels == factors


def test_the_paraphraser_learns_from_images_alone_to_restore_the_map(caplog: pytest.LogCaptureFixture) -> None:
    errors = {}
    for epochs in (1, 40):
        caplog.clear()
        with caplog.at_level("INFO", logger="nasdistill"):
            task_of(epochs=epochs)[0].prepare(batches(SHAPE), seed=0)
        errors[epochs] = float(caplog.text.split("mean error of ")[1].split()[0])
    assert errors[40] < 0.8 * errors[1]


def test_the_paraphraser_stays_as_it_was_trained_while_the_student_translates() -> None:
    task, loss = task_of()
    given = batches(SHAPE)
    untrained = copy.deepcopy(loss.paraphraser.state_dict())
    task.prepare(given, seed=0)
    before = copy.deepcopy(loss.state_dict())
    assert any(not torch.equal(value, before[f"paraphraser.{name}"]) for name, value in untrained.items())
    losses = train(task, list(given.epoch(0)) * 15, optimizer_of(task), "ft")
    assert losses[-1] < 0.9 * losses[0]
    moved = {name.split(".")[0] for name, value in loss.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"translator"}


def test_a_paraphraser_that_diverges_is_told() -> None:
    with pytest.raises(UserError, match="the paraphraser of ft diverged with the learning rate 1e\\+30; lower `lr`"):
        task_of(lr=1e30)[0].prepare(batches(SHAPE), seed=0)


def test_networks_without_maps_need_a_pair() -> None:
    with pytest.raises(UserError, match="the teacher has no feature points of its own; give the pair of points"):
        bound("ft", TwoMaps(), network("mlp-8", SHAPE), SHAPE)
    with pytest.raises(UserError, match=r"it compares maps .*, but the student's module 'classifier' puts out \[3\]"):
        bound({"name": "ft", "pair": ["classifier", "second"]}, TwoMaps(), TwoMaps(), SHAPE)
