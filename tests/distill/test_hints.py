"""Hints by hand: the regressor's kernel, the two forms of the loss, and an upper half that nothing touches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.hinting import HintTraining, LowerHalf
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.hints import Hints, hint_distance, pooled_hint, regressor
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import SpecError, UserError
from nasdistill.registry import build, registry
from nasdistill.training.batches import Batch
from tests.distill.nets import TwoMaps, WithAuxiliary
from tests.training.parts import FixedBatches, engine

SHAPE = (1, 6, 6)


def images(count: int = 5, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def batch() -> Batch:
    return Batch(images(), torch.arange(5) % 3, torch.arange(5))


def test_the_forms_are_half_the_squared_norm_and_the_mean() -> None:
    """Of two images, whose squared norms are 1 + 4 + 4 = 9 and 16."""
    hint = torch.tensor([[[[1.0, 2.0]], [[0.0, 2.0]]], [[[4.0, 0.0]], [[0.0, 0.0]]]])
    regressed = torch.zeros(2, 2, 1, 2)
    assert float(hint_distance(regressed, hint, "paper")) == pytest.approx((9 / 2 + 16 / 2) / 2)
    assert float(hint_distance(regressed, hint, "code")) == pytest.approx((9 + 16) / 8)


@pytest.mark.parametrize(
    ("student", "teacher", "kernel"),
    [
        ((4, 8, 8), (8, 8, 8), (1, 1)),
        ((4, 8, 8), (8, 4, 4), (5, 5)),
        ((4, 8, 6), (8, 3, 6), (6, 1)),
        ((4, 4, 4), (8, 8, 8), (1, 1)),
        ((4, 8, 4), (8, 4, 8), (5, 1)),
    ],
)
def test_the_kernel_brings_the_students_places_to_the_teachers(
    student: Shape, teacher: Shape, kernel: tuple[int, int]
) -> None:
    """k = N_s - N_t + 1 without padding; where the teacher has more places, they are averaged."""
    learned = regressor(student, teacher)
    assert isinstance(learned, nn.Conv2d)
    assert learned.kernel_size == kernel
    regressed = learned(torch.zeros(2, *student))
    pooled = pooled_hint(torch.randn(2, *teacher), regressed.shape)
    assert regressed.shape == pooled.shape
    assert regressed.shape[2:] == tuple(min(pair) for pair in zip(student[1:], teacher[1:], strict=True))


def test_a_larger_map_of_the_teacher_is_averaged() -> None:
    hint = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert pooled_hint(hint, torch.Size((1, 1, 1, 1))).item() == 4.0
    assert pooled_hint(hint, hint.shape) is hint


def test_the_convolution_is_the_sum_over_its_window() -> None:
    """A 3x3 student's map to the 2x2 of its teacher, each place written out."""
    learned = regressor((2, 3, 3), (1, 2, 2))
    weight, bias = (parameter.detach() for parameter in learned.parameters())
    guided = torch.arange(18.0).view(1, 2, 3, 3)
    for row in range(2):
        for column in range(2):
            expected = (weight[0] * guided[0, :, row : row + 2, column : column + 2]).sum() + bias[0]
            torch.testing.assert_close(learned(guided)[0, 0, row, column], expected)


@pytest.mark.parametrize(("student", "teacher"), [((4,), (8,)), ((5, 4), (5, 8))])
def test_vectors_have_a_linear_regressor(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    learned = regressor(student, teacher)
    assert isinstance(learned, nn.Linear)
    assert learned(torch.zeros(2, *student)).shape == (2, *teacher)


@pytest.mark.parametrize(("student", "teacher"), [((4, 8, 8), (8,)), ((4, 8), (5, 8)), ((4,), (1, 4, 4))])
def test_a_map_and_a_vector_do_not_go_together(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="two maps, or two vectors, but the student's layer puts out"):
        regressor(student, teacher)


def test_a_rectifier_ends_the_regressor_where_asked_for() -> None:
    assert float(regressor((1, 2, 2), (1, 2, 2), relu=True)(-100 * torch.ones(1, 1, 2, 2)).detach().min()) >= 0
    assert isinstance(regressor((1, 2, 2), (1, 2, 2)), nn.Conv2d)


def hints(**options: object) -> Hints:
    parsed = OBJECTIVES.parse({"name": "hints", **options})
    assert isinstance(parsed, Hints)
    return parsed


def test_the_middle_points_are_the_default_pair() -> None:
    student, teacher = (registry("models").parse(name).build(SHAPE, 3) for name in ("wrn-10-1", "wrn-16-2"))
    term = hints().bind(student, teacher, SHAPE)
    assert (term.student_points, term.teacher_points) == (("groups.1",), ("groups.1",))


def test_networks_without_feature_points_need_a_pair() -> None:
    student, teacher = (registry("models").parse(name).build(SHAPE, 3) for name in ("mlp-8-8", "mlp-16-16"))
    with pytest.raises(UserError, match="the student has no feature points of its own; give the pair"):
        hints().bind(student, teacher, SHAPE)
    task = Distillation(student, [Teacher(teacher)], [hints(pair=["hidden.0", "hidden.1"])], SHAPE)
    weight = dict(task.learned.named_parameters())["hints.regressor.weight"]
    assert weight.shape == (16, 8)
    assert float(task(batch())["hints"].detach()) > 0


def test_beside_other_objectives_it_is_the_distance_of_the_tapped_layers() -> None:
    torch.manual_seed(0)
    student, teacher = TwoMaps(), TwoMaps(channels=8)
    task = Distillation(student, [Teacher(teacher)], [hints(weight=100)], SHAPE)
    given = batch()
    guided, hint = student.first(given.images), copy.deepcopy(teacher).eval().first(given.images)
    weight, bias = task.learned["hints"].parameters()
    expected = torch.einsum("nchw,dc->ndhw", guided, weight[:, :, 0, 0]) + bias.view(-1, 1, 1)
    torch.testing.assert_close(task(given)["hints"], 100 * (expected - hint).square().mean())
    assert "hints" not in " ".join(student.state_dict())


def test_the_seed_alone_decides_the_regressor() -> None:
    """And it is drawn as torch draws a convolution: uniform within 1/sqrt(inputs of a unit)."""
    drawn = []
    for seed in (0, 0, 1):
        task = Distillation(TwoMaps(), [Teacher(TwoMaps(channels=8))], [hints()], SHAPE)
        task.prepare(FixedBatches(images(), torch.arange(5) % 3, 5), seed)
        drawn.append(torch.cat([parameter.flatten() for parameter in task.learned.parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert 0.4 < float(drawn[0].abs().max().detach()) <= 0.5  # 4 inputs


def training(student: nn.Module | None = None, **options: object) -> HintTraining:
    torch.manual_seed(0)
    return HintTraining(student or TwoMaps(), Teacher(TwoMaps(channels=8)), hints(**options), SHAPE)


def train(task: HintTraining, steps: int = 30) -> list[float]:
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    losses = []
    for _ in range(steps):
        (loss,) = task.train()(batch()).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_the_lower_half_and_the_regressor_learn_and_the_upper_half_keeps_every_bit() -> None:
    """Weight decay and batch-norm statistics of the upper half included."""
    task = training(WithAuxiliary())
    before = copy.deepcopy(task.state_dict())
    losses = train(task)
    assert losses[-1] < losses[0] / 3
    moved = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    expected = {name for name in before if name.startswith(("network.first.", "learned."))}
    assert moved == expected


def test_nothing_waits_for_gradients_of_the_upper_half() -> None:
    """Several processes would wait for ever for those of parameters that no loss reaches."""
    task = training(WithAuxiliary())
    learning = {name.split(".")[0] for name, value in task.network.named_parameters() if value.requires_grad}
    assert learning == {"first"}
    assert all(value.requires_grad for value in task.learned.parameters())


def test_the_layers_above_the_hint_are_never_run() -> None:
    task = training()
    ran: list[str] = []
    for name, network in (("student", task.network), ("teacher", task._teacher.network.network)):
        for path in ("first", "second", "classifier"):
            module = network.get_submodule(path)  # type: ignore[union-attr]
            module.register_forward_pre_hook(lambda *_, ran=ran, told=f"{name} {path}": ran.append(told))
    task(batch())
    assert ran == ["student first", "teacher first"]


def test_ending_early_changes_no_bit_of_what_comes_before() -> None:
    network = TwoMaps().eval()
    torch.testing.assert_close(LowerHalf(network, "first")(images()), network.first(images()), rtol=0, atol=0)
    assert LowerHalf(network, "second.0")(images()).shape == (5, 4, 3, 3)
    torch.testing.assert_close(LowerHalf(network, "second:input")(images()), network.first(images()), rtol=0, atol=0)
    assert network(images()).shape == (5, 3)  # nothing is left behind that would end this pass
    network.unused = nn.ReLU()
    with pytest.raises(UserError, match="'unused' takes no part"):
        LowerHalf(network, "unused")(images())


def test_the_teacher_is_frozen_and_kept_out_of_checkpoints() -> None:
    task = training()
    assert {name.split(".")[0] for name in task.state_dict()} == {"network", "learned"}
    assert {name.removeprefix("network.") for name in task.state_dict() if name.startswith("network.")} == set(
        task.network.state_dict()
    )
    before = copy.deepcopy(task._teacher.network.state_dict())
    train(task, steps=2)
    assert not task._teacher.network.training
    assert all(torch.equal(value, before[name]) for name, value in task._teacher.network.state_dict().items())
    assert next(task.to(torch.float64)._teacher.network.parameters()).dtype == torch.float64


def test_the_teacher_gets_images_in_its_own_normalisation() -> None:
    data, own = Normalisation(mean=(0.2,), std=(0.5,)), Normalisation(mean=(0.4,), std=(0.25,))
    torch.manual_seed(0)
    student, teacher = TwoMaps(), TwoMaps(channels=8).eval()
    task = HintTraining(student, Teacher(teacher, own), hints(), SHAPE, data)
    pixels = torch.rand(5, *SHAPE)
    expected = teacher.first((pixels - 0.4) / 0.25)
    torch.testing.assert_close(task._hint((pixels - 0.2) / 0.5), expected.detach())


def test_its_score_is_the_loss_of_the_validation_images_in_evaluation_mode() -> None:
    task = training()
    train(task, steps=3)
    validation = FixedBatches(images(7, seed=2), torch.zeros(7, dtype=torch.int64), 3)
    found = task.score(task.network, validation, validation, engine())
    guided = copy.deepcopy(task.network).eval().first(images(7, seed=2))  # type: ignore[operator]
    hint = task._teacher.network.network.first(images(7, seed=2))  # type: ignore[union-attr, operator]
    expected = (task.learned.regressor(guided) - hint).square().mean()
    assert found == {"validation/loss": pytest.approx(float(expected.detach()), rel=1e-5)}
    assert task.network.training


def test_wrong_options_are_named() -> None:
    with pytest.raises(UserError, match="the student has no module 'frist'; did you mean 'first'"):
        training(pair=["frist", "first"])
    with pytest.raises(SpecError) as error:
        build(Hints, {"form": "norm"})
    assert error.value.path == ("form",)
