"""Adversarial distillation: values by hand, a discriminator that is trained first, and who gets which gradient."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.distill.discriminator import (
    Discriminator,
    Fooling,
    fooling_loss,
    telling_loss,
    told_apart,
    train_discriminator,
)
from nasdistill.distill.learned import Preview
from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.distill.objectives.adversarial import Adversarial, Adversary
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from nasdistill.training.batches import NO_LABEL, Batch
from tests.distill.nets import TwoMaps
from tests.training.parts import FixedBatches

SHAPE, CLASSES, IMAGES = (1, 6, 6), 3, 200


def logits(seed: int, count: int = IMAGES, spread: float = 1.0) -> torch.Tensor:
    return spread * torch.randn(count, CLASSES, generator=torch.Generator().manual_seed(seed))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_the_discriminators_loss_is_binary_cross_entropy_with_the_teacher_0_and_the_student_1() -> None:
    teacher, student = torch.tensor([-2.0, 0.5]), torch.tensor([1.0, -0.3])
    expected = functional.binary_cross_entropy(torch.cat([teacher, student]).sigmoid(), torch.tensor([0.0, 0, 1, 1]))
    torch.testing.assert_close(telling_loss(teacher, student), expected)


def test_the_students_losses_by_hand() -> None:
    """Published: -L_class(label student) = log D; non-saturating: L_class(label teacher) = -log(1 - D)."""
    scores = torch.tensor([2.0, -1.0])
    published = (math.log(sigmoid(2)) + math.log(sigmoid(-1))) / 2
    non_saturating = -(math.log(1 - sigmoid(2)) + math.log(1 - sigmoid(-1))) / 2
    assert float(fooling_loss(scores, "published")) == pytest.approx(published)
    assert float(fooling_loss(scores, "non-saturating")) == pytest.approx(non_saturating)


@pytest.mark.parametrize(("fooling", "slope"), [("published", lambda d: 1 - d), ("non-saturating", lambda d: d)])
def test_the_gradients_by_hand(fooling: Fooling, slope: object) -> None:
    scores = torch.tensor([3.0, 0.0, -4.0], requires_grad=True)
    fooling_loss(scores, fooling).backward()  # type: ignore[no-untyped-call]
    expected = [slope(sigmoid(score)) / 3 for score in (3.0, 0.0, -4.0)]  # type: ignore[operator]
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx(expected)


def test_the_published_loss_is_unbounded_below_and_the_other_ends_at_0() -> None:
    fooled = torch.tensor([-1e4])
    assert float(fooling_loss(fooled, "published")) == pytest.approx(-1e4)
    assert float(fooling_loss(fooled, "non-saturating")) == 0


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("scale", [2.0, 10.0, 50.0])
def test_what_drives_a_students_weights_is_bounded_where_the_published_one_grows_with_them(
    scale: float, depth: int
) -> None:
    """A chain of `depth` weights, each `scale`, whose product is minus the score: |dL/dw| = scale^(depth-1) |dL/du|."""

    def slope(fooling: Fooling) -> float:
        weights = torch.full((depth,), scale, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(fooling_loss(-weights.prod()[None], fooling), weights)
        return float(gradient.abs().max())

    fooled = sigmoid(-min(scale**depth, 700.0))
    assert slope("published") == pytest.approx(scale ** (depth - 1) * (1 - fooled))
    assert slope("published") > 0.9 * scale ** (depth - 1)
    assert slope("non-saturating") == pytest.approx(scale ** (depth - 1) * fooled, abs=1e-12)
    assert slope("non-saturating") < 0.1


def test_the_bounded_loss_is_larger_than_its_slope_and_ends_with_it() -> None:
    """D < -log(1 - D) for every D: a student whose loss is small is hardly moved, from whichever side it comes."""
    scores = torch.linspace(-20, 20, 41, dtype=torch.float64)[:, None].requires_grad_()
    losses = torch.stack([fooling_loss(score, "non-saturating") for score in scores])
    (slopes,) = torch.autograd.grad(losses.sum(), scores)
    assert bool((slopes.squeeze(1) > 0).all())
    assert bool((slopes.squeeze(1) < losses.detach()).all())


def test_the_bounded_loss_is_the_default_and_only_the_published_one_has_a_caveat() -> None:
    plain = OBJECTIVES.parse("adversarial")
    assert (plain.fooling, plain.stop_below, plain.caveat()) == ("non-saturating", 0, None)  # type: ignore[attr-defined]
    assert "no lower bound" in str(settings(fooling="published").caveat())
    assert settings(fooling="published", weight=0).caveat() is None


def test_outputs_told_apart_are_counted_on_both_sides() -> None:
    assert int(told_apart(torch.tensor([-1.0, -2.0, 3.0]), torch.tensor([1.0, -1.0, -1.0]))) == 3
    same = torch.randn(20, generator=torch.Generator().manual_seed(0))
    assert int(told_apart(same, same)) == 20  # of 40: chance, whatever the discriminator says


def trained(
    teacher: torch.Tensor, student: torch.Tensor, steps: int = 150, seed: int = 0
) -> tuple[Discriminator, float]:
    discriminator = Discriminator(CLASSES, (16,))
    generator = torch.Generator().manual_seed(seed)
    options = {"steps": steps, "lr": 1e-2, "held_out": 0.25, "generator": generator}
    return discriminator, train_discriminator(discriminator, teacher, student, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("held_out", [1e-6, 1 - 1e-6])
def test_some_images_are_held_out_and_some_are_not(held_out: float) -> None:
    told = train_discriminator(
        Discriminator(CLASSES, ()),
        logits(1, 8),
        logits(2, 8),
        steps=1,
        lr=1e-2,
        held_out=held_out,
        generator=torch.Generator().manual_seed(0),
    )
    assert 0 <= told <= 1


def test_it_learns_what_can_be_told_and_is_measured_on_what_it_has_not_seen() -> None:
    """Two scales of one distribution: the best that anyone can do is a known number."""
    teacher, student = logits(1, 4000, spread=4.0), logits(2, 4000)
    discriminator, accuracy = trained(teacher, student, steps=400)
    # The likelihood ratio of N(0, 16 I) and N(0, I) in three dimensions decides by |z|^2 < t = 3 ln(16) / (1 - 1/16);
    # |z|^2 is chi-squared with three degrees of freedom.
    threshold = 3 * math.log(16) / (1 - 1 / 16)

    def chi_squared_3(value: float) -> float:
        return math.erf(math.sqrt(value / 2)) - math.sqrt(2 * value / math.pi) * math.exp(-value / 2)

    best = (chi_squared_3(threshold) + 1 - chi_squared_3(threshold / 16)) / 2
    assert accuracy == pytest.approx(best, abs=0.025)
    right = int(told_apart(discriminator(logits(3, 4000, spread=4.0)), discriminator(logits(4, 4000))))
    assert right / 8000 == pytest.approx(best, abs=0.025)


def test_of_identical_outputs_it_gets_half_right() -> None:
    same = logits(1)
    assert trained(same, same)[1] == 0.5


def test_of_one_distribution_it_gets_about_half_right_of_what_was_held_out() -> None:
    """It can learn the training outputs by heart; those held out tell."""
    _, accuracy = trained(logits(1, 2000), logits(2, 2000))
    assert accuracy == pytest.approx(0.5, abs=0.06)  # 1000 outputs held out: standard error 0.016


def test_the_seed_decides_all_and_the_global_generator_nothing() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, _ = trained(logits(1), logits(2), steps=3)
    torch.manual_seed(2)
    again, _ = trained(logits(1), logits(2), steps=3)
    other, _ = trained(logits(1), logits(2), steps=3, seed=1)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.score.weight, other.score.weight)
    torch.manual_seed(1)
    adversary = Adversary(settings(), CLASSES)
    torch.set_rng_state(before)
    adversary.prepare(preview(logits(1), logits(2, spread=9)))
    assert torch.equal(torch.get_rng_state(), before)


def settings(**options: object) -> Adversarial:
    small = {"steps": 100, "lr": 1e-2, "hidden": [16], "stop_below": 0.55}
    parsed = OBJECTIVES.parse({"name": "adversarial", **small, **options})
    assert isinstance(parsed, Adversarial)
    return parsed


def batch(said: torch.Tensor) -> Batch:
    labels = said.argmax(1)  # a student that is always right
    return Batch(torch.zeros(len(said), *SHAPE), labels, torch.arange(len(said)))


def preview(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor | None = None) -> Preview:
    labels = student.argmax(1) if labels is None else labels

    def outputs() -> Iterator[tuple[Outputs, Outputs, Batch]]:
        for part in torch.split(torch.arange(len(student)), 64):
            yield (
                Outputs(student[part], {}),
                Outputs(teacher[part], {}),
                Batch(torch.zeros(len(part), *SHAPE), labels[part], part),
            )

    return Preview(labels, outputs, seed=0)


def test_it_is_trained_first_and_says_how_well(caplog: pytest.LogCaptureFixture) -> None:
    adversary = Adversary(settings(), CLASSES)
    with caplog.at_level("INFO", logger="nasdistill"):
        adversary.prepare(preview(logits(1), logits(2) + 10))
    assert caplog.messages == ["adversarial: the discriminator's accuracy on held-out outputs is 100.0 %"]
    assert adversary.stop_reason() is None
    scores = adversary.discriminator(logits(3)), adversary.discriminator(logits(4) + 10)
    assert float(scores[0].detach().min()) > 0 > float(scores[1].detach().max())


def test_where_there_is_nothing_to_tell_apart_it_ends_at_the_outset_with_a_reason() -> None:
    same = logits(1)
    with pytest.raises(UserError, match=r"nothing to learn from .* right about 50.0 % .* less than stop_below 0.55"):
        Adversary(settings(), CLASSES).prepare(preview(same, same))
    Adversary(settings(stop_below=0), CLASSES).prepare(preview(same, same))


def test_an_untrained_student_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    student, teacher = logits(1), logits(2) + 10
    Adversary(settings(), CLASSES).prepare(preview(student, teacher))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    Adversary(settings(), CLASSES).prepare(preview(student, teacher, torch.arange(IMAGES) % CLASSES))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "as if it had never been trained" in warning


def test_without_labels_nobody_knows_whether_the_student_is_trained(caplog: pytest.LogCaptureFixture) -> None:
    unlabelled = torch.full((IMAGES,), NO_LABEL)
    Adversary(settings(), CLASSES).prepare(preview(logits(1), logits(2) + 10, unlabelled))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def linear(form: str, fooling: str = "published", weight: float = 0.5) -> Adversary:
    """Against a discriminator that scores 2 a - b."""
    adversary = Adversary(settings(form=form, fooling=fooling, hidden=[], weight=weight), CLASSES)
    with torch.no_grad():
        adversary.discriminator.score.weight.copy_(torch.tensor([[2.0, -1.0, 0.0]]))
        adversary.discriminator.score.bias.zero_()
    return adversary


def test_the_loss_and_its_gradient_against_a_linear_discriminator() -> None:
    student, teacher = torch.tensor([[1.0, 0.5, 0.0]], requires_grad=True), torch.tensor([[-1.0, 0.0, 0.0]])
    loss = linear("fixed")(Outputs(student, {}), Outputs(teacher, {}), batch(student))
    score = 2 * 1.0 - 0.5
    assert float(loss.detach()) == pytest.approx(math.log(sigmoid(score)))
    loss.backward()
    assert student.grad is not None
    # d log D / du = 1 - D, times du/dlogits; a step against it lowers the score towards the teacher's side.
    assert student.grad[0].tolist() == pytest.approx([2 * (1 - sigmoid(score)), -(1 - sigmoid(score)), 0.0])
    moved = student.detach() - student.grad
    assert float(moved @ torch.tensor([2.0, -1.0, 0.0])) < score


def test_logits_are_standardised_class_by_class() -> None:
    discriminator = Discriminator(CLASSES, ())
    said = logits(1) * torch.tensor([1.0, 5.0, 0.0]) + torch.tensor([0.0, 3.0, 7.0])
    discriminator.standardise(said)
    with torch.no_grad():
        discriminator.score.weight.copy_(torch.tensor([[1.0, 1.0, 1.0]]))
        discriminator.score.bias.zero_()
        found = discriminator(said)
    first, second = ((said[:, at] - said[:, at].mean()) / said[:, at].std() for at in (0, 1))
    torch.testing.assert_close(found, first + second, rtol=0, atol=1e-4)  # a class that never varies says nothing


def test_half_precision_is_computed_in_single() -> None:
    said = Outputs(logits(1, 8), {}), Outputs(logits(2, 8), {}), batch(logits(1, 8))
    expected = linear("fixed")(*said)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(linear("fixed")(*said), expected)


@pytest.mark.parametrize("fooling", ["published", "non-saturating"])
def test_alternating_gives_each_side_its_own_gradient_alone(fooling: str) -> None:
    """The discriminator's is that of its own loss, whatever beta is; the student's is that against a fixed one."""
    student, teacher = logits(1, 8).requires_grad_(), logits(2, 8)
    adversary = linear("alternating", fooling, weight=0.05)
    loss = 0.05 * adversary(Outputs(student, {}), Outputs(teacher, {}), batch(student))
    loss.backward()
    same = copy.deepcopy(adversary.discriminator)
    own = torch.autograd.grad(telling_loss(same(teacher), same(student.detach())), list(same.parameters()))
    for parameter, expected in zip(adversary.discriminator.parameters(), own, strict=True):
        torch.testing.assert_close(parameter.grad, expected)
    against_fixed = student.detach().clone().requires_grad_()
    fixed = 0.05 * linear("fixed", fooling)(Outputs(against_fixed, {}), Outputs(teacher, {}), batch(student))
    fixed.backward()
    assert float(loss.detach()) == pytest.approx(float(fixed.detach()))
    torch.testing.assert_close(student.grad, against_fixed.grad)


class Scored(nn.Module):
    """A teacher or student that says what a linear layer makes of the pixels."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.layer = nn.Linear(36, CLASSES)
        nn.init.constant_(self.layer.bias, bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(images.flatten(1))
        return found


def training(form: str, **options: object) -> tuple[Distillation, FixedBatches]:
    torch.manual_seed(0)
    images = torch.randn(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(5))
    listed = with_label_term([settings(form=form, **options)])
    task = Distillation(Scored(0.0), [Teacher(Scored(6.0))], listed, SHAPE)
    batches = FixedBatches(images, torch.arange(IMAGES) % CLASSES, 50)
    task.prepare(batches, seed=0)
    return task, batches


def epoch(task: Distillation, batches: FixedBatches, start: int = 0) -> dict[str, float]:
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.2, weight_decay=0.1)
    for given in batches.epoch(0, start):
        optimizer.zero_grad()
        torch.stack(list(task.train()(given).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return task.end_epoch()


def discriminator_of(task: Distillation) -> dict[str, torch.Tensor]:
    adversary = task.learned["adversarial"]
    assert isinstance(adversary, Adversary)
    return copy.deepcopy(adversary.discriminator.state_dict())


def test_a_fixed_discriminator_keeps_every_bit_and_the_student_comes_to_fool_it() -> None:
    task, batches = training("fixed", fooling="non-saturating", weight=10)
    before = discriminator_of(task)
    first = epoch(task, batches)
    for _ in range(5):
        last = epoch(task, batches)
    assert all(torch.equal(value, before[name]) for name, value in discriminator_of(task).items())
    assert first["adversarial/discriminator accuracy at first"] == 100
    assert last["adversarial/discriminator accuracy"] <= 51 < first["adversarial/discriminator accuracy"]
    assert "the discriminator is right about 5" in str(task.stop_reason())


def test_an_alternating_discriminator_goes_on_learning() -> None:
    task, batches = training("alternating")
    before = discriminator_of(task)
    epoch(task, batches)
    after = discriminator_of(task)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name not in ("mean", "std")}


def test_preparation_leaves_no_gradients_for_the_first_step_to_add_to() -> None:
    """A resumed training would add them once more, and end with other bits."""
    task, _ = training("alternating")
    assert all(parameter.grad is None for parameter in task.parameters())


def test_the_warm_up_of_the_term_does_not_slow_the_discriminator() -> None:
    plain, batches = training("alternating")
    rising, _ = training("alternating", warmup=10)
    given = next(batches.epoch(0))
    gradients = []
    for task in (plain, rising):
        task.begin_epoch(0, 10)
        sum(task(given).values()).backward()  # type: ignore[union-attr]
        gradients.append([parameter.grad for parameter in task.learned.parameters()])
    torch.testing.assert_close(*gradients)


def test_half_an_epoch_decides_nothing_and_is_no_part_of_the_next() -> None:
    """A loop that goes on in the middle of an epoch asks for a reason to stop before that epoch has ended."""
    task, batches = training("fixed", fooling="non-saturating", weight=10)
    for _ in range(5):
        epoch(task, batches)
    fooled, _ = training("fixed", fooling="non-saturating", weight=10)
    fooled.network.load_state_dict(task.network.state_dict())
    for given in batches.epoch(0, 2):
        fooled(given)
    assert fooled.stop_reason() is None
    resumed, _ = training("fixed", fooling="non-saturating", weight=10)
    resumed.load_state_dict(fooled.state_dict())
    assert resumed.stop_reason() is None
    told = [each.end_epoch() for each in (fooled, resumed)]
    assert told[0] == told[1]
    assert resumed.stop_reason() is not None
    assert int(resumed.learned["adversarial"].seen) == 0  # type: ignore[arg-type]


def test_the_discriminator_is_no_part_of_the_student() -> None:
    task, _ = training("alternating")
    assert not any("discriminator" in name for name in task.network.state_dict())
    assert any("discriminator" in name for name in task.state_dict())
    trained = {name for name, parameter in task.named_parameters() if parameter.requires_grad}
    assert any("discriminator" in name for name in trained)
    fixed, _ = training("fixed")
    assert not any("discriminator" in name for name, value in fixed.named_parameters() if value.requires_grad)


def test_the_labels_keep_their_whole_weight() -> None:
    listed = with_label_term([settings(weight=0.3)])
    assert [(objective.registered_name, objective.weight) for objective in listed] == [
        ("cross-entropy", 1.0),
        ("adversarial", 0.3),
    ]


def test_it_reads_the_number_of_classes_from_the_student_and_leaves_it_as_it_was() -> None:
    student = TwoMaps(classes=7)
    before = copy.deepcopy(student.state_dict())
    term = settings().bind(student, TwoMaps(classes=7), SHAPE)
    assert isinstance(term.loss, Adversary)
    assert term.loss.discriminator.mean.shape == (7,)
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
