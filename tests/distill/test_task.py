"""The teacher teaches and is left alone, and the losses are the published sums: the silent bugs of public code."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.learned import LearnedLoss, Preview
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs, Term
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import SpecError, UserError
from nasdistill.training.batches import Batch
from nasdistill.training.fabric import Fabric
from tests.distill.features import bound, network
from tests.distill.nets import TwoMaps, WithAuxiliary
from tests.training.parts import FixedBatches

SHAPE = (1, 6, 6)


def objectives(*specs: object) -> list[Objective]:
    return [OBJECTIVES.parse(spec) for spec in specs]


def distillation(
    *specs: object, student: nn.Module | None = None, own: Normalisation | None = None, **options: object
) -> Distillation:
    torch.manual_seed(0)
    listed = with_label_term(objectives(*specs or ["kd", "attention"]))
    taught_by = Teacher(TwoMaps(channels=8), own)
    return Distillation(student or TwoMaps(), [taught_by], listed, SHAPE, **options)  # type: ignore[arg-type]


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, *SHAPE, generator=generator)
    return Batch(images, torch.randint(3, (5,), generator=generator), torch.arange(5))


def teacher_of(task: Distillation) -> nn.Module:
    return task.teacher_ensemble.teachers[0].network


def taught_by(task: Distillation, images: torch.Tensor) -> Outputs:
    return task.teacher_ensemble(images)[0]


def test_kd_and_at_is_the_published_sum() -> None:
    """(1-a)*CE + a*T^2*KL + beta*AT, written out once more with the student's and the teacher's own outputs."""
    task = distillation({"name": "kd", "temperature": 4, "weight": 0.9}, {"name": "attention", "beta": 1000})
    task.network.dropout.p = 0.0  # type: ignore[union-attr]
    images, labels, *_ = given = batch()
    losses = task(given)
    student, teacher = copy.deepcopy(task.network).train(), teacher_of(task)

    def maps(network: nn.Module) -> list[torch.Tensor]:
        first = network.first(images)  # type: ignore[operator]
        activations = first, network.second(first)  # type: ignore[operator]
        return [functional.normalize(a.pow(2).mean(1).flatten(1), dim=1) for a in activations]

    probabilities = (teacher(images) / 4).softmax(1)
    divergence = (probabilities * (probabilities.log() - (student(images) / 4).log_softmax(1))).sum(1).mean()
    attention = sum((ours - theirs).pow(2).mean() for ours, theirs in zip(maps(student), maps(teacher), strict=True))
    assert list(losses) == ["cross-entropy", "kd", "attention"]
    torch.testing.assert_close(losses["cross-entropy"], 0.1 * functional.cross_entropy(student(images), labels))
    torch.testing.assert_close(losses["kd"], 0.9 * 16 * divergence)
    torch.testing.assert_close(losses["attention"], 1000 * attention)


def test_the_teacher_stays_in_evaluation_mode_and_the_student_trains() -> None:
    task = distillation()
    task.train()
    assert not any(module.training for module in teacher_of(task).modules())
    assert all(module.training for module in task.network.modules())
    given = batch()
    before = copy.deepcopy(teacher_of(task).state_dict())
    task(given)
    assert all(torch.equal(value, before[name]) for name, value in teacher_of(task).state_dict().items())


def test_the_teacher_runs_without_gradients() -> None:
    task = distillation()
    given = batch()
    taught = taught_by(task, given.images)
    assert not taught.logits.requires_grad
    assert not any(feature.requires_grad for feature in taught.features.values())
    torch.stack(list(task(given).values())).sum().backward()
    assert all(parameter.grad is None for parameter in teacher_of(task).parameters())
    assert all(parameter.grad is not None for parameter in task.network.parameters())


def test_the_teacher_is_neither_optimised_nor_saved() -> None:
    task = distillation()
    teachers = {id(parameter) for parameter in teacher_of(task).parameters()}
    assert not teachers & {id(parameter) for parameter in task.parameters()}
    assert {name.removeprefix("network.") for name in task.state_dict()} == set(task.network.state_dict())


@pytest.mark.parametrize("share", [lambda student: student, lambda student: nn.Sequential(student)])
def test_the_teacher_is_never_the_student(share: object) -> None:
    student = TwoMaps()
    with pytest.raises(UserError, match="shares parameters"):
        Distillation(student, [Teacher(share(student))], objectives("kd"), SHAPE)  # type: ignore[operator]


def test_the_teacher_sees_the_students_views_and_nothing_is_remembered() -> None:
    """Cached teacher outputs would ignore that the same image looks otherwise in each epoch."""
    seen: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}
    task = distillation("kd")
    for name, watched in (("student", task.network), ("teacher", teacher_of(task))):
        watched.register_forward_pre_hook(lambda _module, inputs, name=name: seen[name].append(inputs[0].clone()))
    images, labels, *_ = batch()
    first = taught_by(task, images).logits
    for view in (images, images.flip(3)):
        task(Batch(view, labels, torch.arange(5)))
    assert all(torch.equal(*pair) for pair in zip(seen["student"], seen["teacher"][1:], strict=True))
    assert not torch.equal(taught_by(task, images.flip(3)).logits, first)


def test_the_teacher_gets_images_in_its_own_normalisation() -> None:
    data = Normalisation(mean=(0.2,), std=(0.5,))
    own = Normalisation(mean=(0.4,), std=(0.25,))
    task = distillation("kd", own=own, normalisation=data)
    pixels = torch.rand(5, *SHAPE)
    taught = taught_by(task, (pixels - 0.2) / 0.5)
    torch.testing.assert_close(taught.logits, teacher_of(task)((pixels - 0.4) / 0.25).detach())
    assert not any("scale" in name or "shift" in name for name in task.state_dict())


def test_the_auxiliary_head_learns_the_labels() -> None:
    task = distillation("kd", student=WithAuxiliary(), auxiliary_weight=0.4).train()
    images, labels, *_ = given = batch()
    losses = task(given)
    early = task.network.first(images).mean(dim=(2, 3))  # type: ignore[operator]
    expected = 0.4 * functional.cross_entropy(task.network.auxiliary(early), labels)  # type: ignore[operator]
    torch.testing.assert_close(losses["auxiliary"], expected)
    assert "auxiliary" not in task.eval()(given)


def weights(listed: list[Objective]) -> dict[str, float]:
    return {objective.registered_name: round(objective.weight, 12) for objective in listed}


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ([{"name": "kd", "weight": 0.9}], {"cross-entropy": 0.1, "kd": 0.9}),
        (["attention"], {"cross-entropy": 1.0, "attention": 1.0}),
        ([{"name": "kd", "weight": 0.5}, "attention"], {"cross-entropy": 0.5, "kd": 0.5, "attention": 1.0}),
        ([{"name": "kd", "weight": 0.3}, {"name": "logits-mse", "weight": 0.7}], {"kd": 0.3, "logits-mse": 0.7}),
        (["logits-mse"], {"logits-mse": 1.0}),
        ([{"name": "cross-entropy", "weight": 2}, "kd"], {"cross-entropy": 2, "kd": 0.9}),
        ([{"name": "cross-entropy", "weight": 0}, "kd"], {"cross-entropy": 0, "kd": 0.9}),
    ],
)
def test_the_label_term(specs: list[object], expected: dict[str, float]) -> None:
    assert weights(with_label_term(objectives(*specs))) == expected


def test_a_label_term_of_less_than_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match=r"add up to 1.4, which leaves -0.4 to the labels") as error:
        with_label_term(objectives("kd", {"name": "logits-mse", "weight": 0.5}))
    assert error.value.path == ("objectives",)


def test_label_smoothing_has_one_place() -> None:
    (labels, _kd) = with_label_term(objectives("kd"), label_smoothing=0.1)
    assert labels.spec()["label_smoothing"] == 0.1
    with pytest.raises(SpecError, match="belongs into the listed objective"):
        with_label_term(objectives("cross-entropy", "kd"), label_smoothing=0.1)


def test_objectives_of_weight_zero_are_left_out_and_something_must_remain() -> None:
    assert list(distillation({"name": "cross-entropy", "weight": 0}, "kd").terms) == ["kd"]
    with pytest.raises(UserError, match="every objective has weight 0"):
        distillation({"name": "cross-entropy", "weight": 0})


def test_the_same_objective_twice_has_two_names() -> None:
    task = distillation("attention", {"name": "attention", "form": "paper", "pairs": [["first", "second"]]})
    assert list(task.terms) == ["cross-entropy", "attention", "attention-2"]
    assert set(task(batch())) == {"cross-entropy", "attention", "attention-2"}


@pytest.mark.parametrize("name", ["attention", "nst"])
def test_maps_of_one_place_are_left_out_and_refused_where_there_are_no_others(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All of a map's share lies in its one place, so that the loss of such a pair is constant."""
    shape = (3, 4, 4)
    student, teacher = network("wrn-10-1", shape), network("wrn-10-2", shape, 1)
    with caplog.at_level("INFO", logger="nasdistill"):
        term = bound(name, student, teacher, shape)
    assert term.student_points == term.teacher_points == ("groups.0", "groups.1")
    assert f"{name}: one place has nothing to compare, so that it leaves out groups.2 with groups.2" in caplog.messages
    with pytest.raises(UserError, match=r"what is paired has one place \(groups.0 with groups.2\)"):
        bound({"name": name, "pairs": [["groups.0", "groups.2"]]}, student, teacher, shape)


def test_different_sizes_are_pooled_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="nasdistill"):
        task = distillation({"name": "attention", "pairs": [["second", "first"]]})
        for _ in range(2):
            task(batch())
    pooled = [record.getMessage() for record in caplog.records if "pooled" in record.getMessage()]
    assert pooled == [
        "attention: the student's second is 3x3, the teacher's first 6x6; the larger is pooled to the smaller"
    ]
    assert any("the student minimises 1 * cross-entropy + 1 * attention" in text for text in caplog.messages)


def test_maps_without_space_are_refused() -> None:
    with pytest.raises(UserError, match=r"the student's module 'classifier' puts out \[3\] per image"):
        distillation({"name": "attention", "pairs": [["classifier", "first"]]})


class Regressor(Objective):
    """A hint through a 1x1 convolution of its own (Romero et al. 2015)."""

    registered_name: ClassVar[str] = "hint"

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        return Term(Hint(), ("first",), ("first",))


class Hint(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.regressor = nn.Conv2d(4, 8, 1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        return functional.mse_loss(self.regressor(student.features["first"]), teacher.features["first"])


def test_an_objective_may_have_parameters_of_its_own() -> None:
    task = Distillation(TwoMaps(), [Teacher(TwoMaps(channels=8))], [Regressor()], SHAPE)
    torch.stack(list(task(batch()).values())).sum().backward()
    learned = dict(task.named_parameters())["learned.hint.regressor.weight"]
    assert learned.grad is not None
    assert learned.grad.abs().sum() > 0
    assert "learned.hint.regressor.weight" in task.state_dict()
    assert "learned.hint.regressor.weight" not in task.network.state_dict()


class Curious(Objective):
    """Keeps what a loss is shown before training."""

    registered_name: ClassVar[str] = "curious"

    def bind(self, student: nn.Module, teacher: nn.Module, shape: Shape) -> Term:
        return Term(Seen(), ("first",), ("second",))


class Seen(LearnedLoss):
    def prepare(self, preview: Preview) -> None:
        self.shown = list(preview.outputs())
        self.labels = preview.labels


def test_before_training_losses_see_both_networks_in_evaluation_mode_and_change_neither() -> None:
    torch.manual_seed(0)
    task = Distillation(TwoMaps(), [Teacher(TwoMaps(channels=8))], [Curious()], SHAPE).train()
    before, plain = copy.deepcopy(task.state_dict()), copy.deepcopy(task.network).eval()
    random = torch.get_rng_state()
    given = FixedBatches(torch.randn(7, *SHAPE), torch.arange(7) % 3, 4)
    torch.set_rng_state(random)
    task.prepare(given, seed=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in task.network.modules())
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    seen = task.learned["curious"]
    assert isinstance(seen, Seen)
    assert torch.equal(seen.labels, torch.arange(7) % 3)
    assert [batch.indices.tolist() for _, _, batch in seen.shown] == [[0, 1, 2, 3], [4, 5, 6]]
    for student, teacher, batch in seen.shown:
        torch.testing.assert_close(student.logits, plain(batch.images).detach())
        torch.testing.assert_close(student.features["first"], plain.first(batch.images).detach())
        torch.testing.assert_close(teacher.logits, teacher_of(task)(batch.images))
        assert not student.logits.requires_grad
        assert set(teacher.features) == {"second"}


def test_drop_path_rises_as_it_does_without_a_teacher() -> None:
    student, calls = TwoMaps(), []
    student.drop_path, student.set_drop_path = 0.2, calls.append  # type: ignore[assignment]
    task = distillation("kd", student=student)
    for epoch in range(4):
        task.begin_epoch(epoch, 4)
    assert calls == pytest.approx([0, 0.05, 0.1, 0.15])


def test_the_teachers_normalisation_moves_with_the_task() -> None:
    own, of_images = Normalisation(mean=(0.4,), std=(0.25,)), Normalisation(mean=(0,), std=(1,))
    task = distillation("kd", own=own, normalisation=of_images)
    assert taught_by(task.to("meta"), torch.empty(5, *SHAPE, device="meta")).logits.device.type == "meta"


def test_the_teacher_moves_with_the_task() -> None:
    task = distillation().to(torch.float64).to(memory_format=torch.channels_last)
    weight = teacher_of(task).second[0].weight  # type: ignore[index, union-attr]
    assert weight.dtype == torch.float64
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_fabric_trains_it_in_mixed_precision() -> None:
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    task = distillation()
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    module, optimizer = fabric.setup(task, torch.optim.SGD(parameters, lr=0.01))
    before = [parameter.clone() for parameter in parameters]
    losses = module(batch())
    fabric.backward(torch.stack(list(losses.values())).sum())
    optimizer.step()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert all(not torch.equal(*pair) for pair in zip(before, parameters, strict=True))
