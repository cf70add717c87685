"""Objectives against closed forms, against numpy and scipy, and against each other's reductions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from nasdistill.distill import attention
from nasdistill.distill.attention import attention_distance, attention_map
from nasdistill.distill.function import objective_of
from nasdistill.distill.objectives import OBJECTIVES, Objective, Outputs
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import SpecError, UserError
from nasdistill.training.batches import Batch
from tests.distill.losses import DOUBLE, logits, loss_of


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """KL(teacher || student) of the softened probabilities, mean over the batch, by scipy."""
    ours, theirs = (softmax(value.detach().numpy() / temperature, 1) for value in (student, teacher))
    return float(rel_entr(theirs, ours).sum(1).mean())


def test_kd_of_two_classes_in_closed_form() -> None:
    # t/T = (ln 3, 0) gives (3/4, 1/4); s/T = (0, 0) gives (1/2, 1/2).
    teacher = torch.tensor([[4 * math.log(3), 0.0]], dtype=DOUBLE)
    student = torch.zeros(1, 2, dtype=DOUBLE)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert loss_of("kd", student, teacher).item() == pytest.approx(16 * expected)
    assert loss_of("kd-mean", student, teacher).item() == pytest.approx(16 * expected / 2)
    assert loss_of("kd-lambda", student, teacher).item() == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("classes", [7, 10])
def test_each_form_of_kd_is_a_known_multiple_of_scipys_divergence(temperature: float, classes: int) -> None:
    student, teacher = logits(0, classes=classes), logits(1, classes=classes)
    expected = divergence(student, teacher, temperature)
    factors = {"kd": temperature**2, "kd-mean": temperature**2 / classes, "kd-lambda": 1.0}
    for name, factor in factors.items():
        loss = loss_of({"name": name, "temperature": temperature}, student, teacher)
        assert loss.item() == pytest.approx(factor * expected)


def test_a_weight_of_250_for_one_reduction_is_2500_for_the_other() -> None:
    """facts/distillation.md, the reduction trap, with 10 classes."""
    student, teacher = logits(0), logits(1)
    assert 250 * loss_of("kd", student, teacher) == pytest.approx(2500 * loss_of("kd-mean", student, teacher))


def test_published_constants_of_kd_and_at() -> None:
    """2*a*T^2*KL_mean with a=0.9, T=4, C=10 is 2.88*KL_batchmean, a*T^2*KL_batchmean is 14.4 (facts/distillation.md).

    Torch's own `kl_div` stands for the released code.
    """
    student, teacher = logits(0), logits(1)
    said, taught = (student / 4).log_softmax(1), (teacher / 4).softmax(1)
    released = torch.nn.functional.kl_div(said, taught, reduction="none").mean() * 4 * 4 * 2.0 * 0.9
    older = OBJECTIVES.parse({"name": "kd-mean", "weight": 1.8})
    corrected = OBJECTIVES.parse({"name": "kd", "weight": 0.9})
    expected = divergence(student, teacher, 4)
    assert older.weight * loss_of(older, student, teacher).item() == pytest.approx(released.item())
    assert older.weight * loss_of(older, student, teacher).item() == pytest.approx(2.88 * expected)
    assert corrected.weight * loss_of(corrected, student, teacher).item() == pytest.approx(14.4 * expected)


@pytest.mark.parametrize(("name", "factor"), [("kd", 16.0), ("kd-mean", 1.6), ("kd-lambda", 1.0)])
def test_kd_has_the_gradient_of_the_published_cross_entropy(name: str, factor: float) -> None:
    """Papers write CE(softmax(t/T), softmax(s/T)): d/ds = (softmax(s/T) - softmax(t/T)) / (T*N)."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    (gradient,) = torch.autograd.grad(loss_of(name, student, teacher), student)
    ours, theirs = (softmax(value.detach().numpy() / 4, 1) for value in (student, teacher))
    np.testing.assert_allclose(gradient.numpy(), factor * (ours - theirs) / (4 * len(ours)))


def test_t_squared_keeps_the_gradient_at_high_temperature() -> None:
    """For large T the gradient tends to (s - t)/(N*C) for centred logits (Hinton et al. 2015, equation 4)."""
    student, teacher = (value - value.mean(1, keepdim=True) for value in (logits(0), logits(1)))
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of({"name": "kd", "temperature": 1e4}, student, teacher), student)
    torch.testing.assert_close(gradient, (student - teacher).detach() / student.numel(), rtol=2e-3, atol=1e-6)


def test_kd_is_no_squared_error_of_probabilities_and_vanishes_with_the_teacher() -> None:
    student, teacher = logits(0), logits(1)
    squared = torch.nn.functional.mse_loss(student.softmax(1), teacher.softmax(1))
    assert not torch.isclose(loss_of({"name": "kd-mean", "temperature": 1}, student, teacher), squared)
    for name in ("kd", "kd-mean", "kd-lambda"):
        assert loss_of(name, teacher, teacher).item() == 0


def test_what_takes_its_weight_from_the_labels() -> None:
    """The Hinton form is (1-a)*CE + a*KD; the others are published beside a label term of 1."""
    replacing = dict.fromkeys(("kd", "kd-mean", "logits-mse", "mlkd", "ctkd", "token", "simkd"), True)
    replacing |= dict.fromkeys(("kd-lambda", "dkd", "dist", "ttm", "wttm", "rld", "review", "ofa"), False)
    assert {name: OBJECTIVES.get(name).replaces_labels for name in replacing} == replacing


def test_cross_entropy_agrees_with_scipy_with_and_without_smoothing() -> None:
    student, labels = logits(0), torch.tensor([0, 9, 3, 3, 1, 5])
    log_probabilities = log_softmax(student.numpy(), 1)
    plain = -log_probabilities[np.arange(6), labels.numpy()].mean()
    assert loss_of("cross-entropy", student, logits(1), labels).item() == pytest.approx(plain)
    smoothed = 0.9 * plain - 0.1 * log_probabilities.mean()
    spec = {"name": "cross-entropy", "label_smoothing": 0.1}
    assert loss_of(spec, student, logits(1), labels).item() == pytest.approx(smoothed)


def test_logits_mse_by_hand() -> None:
    student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    teacher = torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    assert loss_of("logits-mse", student, teacher).item() == (1 + 0 + 0 + 9) / 4


def test_attention_by_hand() -> None:
    """Channel means of squares: (1+9)/2=5 and (9+1)/2=5 here, (0+32)/2=16 and (0+0)/2=0 there."""
    ours = attention_map(torch.tensor([[[[1.0, 3.0]], [[3.0, 1.0]]]]))
    theirs = attention_map(torch.tensor([[[[0.0, 0.0]], [[32.0**0.5, 0.0]]]]))
    assert ours.tolist() == [[[5.0, 5.0]]]
    torch.testing.assert_close(theirs, torch.tensor([[[16.0, 0.0]]]))
    # Unit vectors (1, 1)/sqrt(2) and (1, 0): the squared distance is 2 - sqrt(2).
    assert attention_distance(ours, theirs, "paper").item() == pytest.approx(math.sqrt(2 - math.sqrt(2)), rel=1e-6)
    assert attention_distance(ours, theirs, "code").item() == pytest.approx((2 - math.sqrt(2)) / 2, rel=1e-6)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_attention_agrees_with_numpy(power: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(5, 3, 4, 6, dtype=DOUBLE, generator=generator)
    teacher = torch.randn(5, 8, 4, 6, dtype=DOUBLE, generator=generator)

    def unit(activation: torch.Tensor) -> np.ndarray:  # type: ignore[type-arg]
        flat = (np.abs(activation.numpy()) ** power).mean(1).reshape(5, -1)
        return flat / np.sqrt((flat**2).sum(1, keepdims=True))

    difference = unit(student) - unit(teacher)
    maps = attention_map(student, power), attention_map(teacher, power)
    assert attention_distance(*maps, "code").item() == pytest.approx((difference**2).mean())
    assert attention_distance(*maps, "paper").item() == pytest.approx(np.linalg.norm(difference, axis=1).mean())


def test_the_two_forms_differ_by_a_root_and_the_number_of_places() -> None:
    """For one image: code = paper^2 / (H*W)."""
    ours, theirs = torch.rand(1, 4, 4, dtype=DOUBLE), torch.rand(1, 4, 4, dtype=DOUBLE)
    paper = attention_distance(ours, theirs, "paper")
    torch.testing.assert_close(attention_distance(ours, theirs, "code"), paper**2 / 16)


def test_a_teachers_map_is_remembered_until_the_activation_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.Tensor] = []
    monkeypatch.setattr(
        attention, "attention_map", lambda given, power: asked.append(given) or attention_map(given, power)
    )
    look = attention.TeacherMap(2.0)
    first = torch.randn(2, 3, 4, 4)
    for activation in (first, first, first.clone(), first):
        assert torch.equal(look(activation), attention_map(activation))
    assert len(asked) == 3
    first.mul_(2)
    assert torch.equal(look(first), attention_map(first))
    assert len(asked) == 4


def test_attention_ignores_the_scale_and_number_of_channels() -> None:
    activation = torch.randn(2, 3, 4, 4, dtype=DOUBLE)
    more = 7 * torch.cat([activation, activation], dim=1)
    assert attention_distance(attention_map(activation), attention_map(more), "code").item() == pytest.approx(0)


def test_the_larger_map_is_averaged_to_the_smaller_without_cancelling_signs() -> None:
    large = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]]).repeat(1, 1, 1, 2)  # energy 1 everywhere: [1, 1, 2, 4]
    small = torch.ones(1, 1, 1, 2)
    assert attention_distance(attention_map(large), attention_map(small), "paper").item() == pytest.approx(0, abs=1e-6)
    # Energies 4 and 0 average to (4, 0); the unit vectors (1, 0) and (1, 1)/sqrt(2) are sqrt(2 - sqrt(2)) apart.
    left = torch.tensor([[[2.0, 2.0, 0.0, 0.0], [2.0, -2.0, 0.0, 0.0]]])[None]
    expected = math.sqrt(2 - math.sqrt(2))
    for maps in ((attention_map(left), attention_map(small)), (attention_map(small), attention_map(left))):
        assert attention_distance(*maps, "paper").item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("power", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("form", ["code", "paper"])
def test_gradients_of_attention_agree_with_finite_differences(form: str, power: float) -> None:
    student = torch.randn(2, 3, 4, 4, dtype=DOUBLE, requires_grad=True)
    teacher = attention_map(torch.randn(2, 5, 2, 2, dtype=DOUBLE), power)

    def distance(activation: torch.Tensor) -> torch.Tensor:
        return attention_distance(attention_map(activation, power), teacher, form)

    assert torch.autograd.gradcheck(distance, (student,))
    assert torch.autograd.gradgradcheck(distance, (student,))


@pytest.mark.parametrize(
    "name", ["kd", "kd-mean", "kd-lambda", "logits-mse", "dkd", "dist", "ttm", "wttm", "mlkd", "rld"]
)
def test_gradients_of_losses_on_logits_agree_with_finite_differences(name: str) -> None:
    student, teacher, labels = logits(0, 3, 4).requires_grad_(), logits(1, 3, 4), torch.tensor([0, 3, 1])
    for standardise in (False, True):
        spec = {"name": name, "standardise": standardise}
        assert torch.autograd.gradcheck(lambda value, spec=spec: loss_of(spec, value, teacher, labels), (student,))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("form", ["code", "paper"])
def test_a_student_that_attends_as_its_teacher_or_nowhere_has_finite_gradients(form: str, power: float) -> None:
    teacher = torch.rand(2, 3, 4, 4)
    for activation in (teacher.clone(), torch.zeros(2, 3, 4, 4)):
        activation.requires_grad_()
        distance = attention_distance(attention_map(activation, power), attention_map(teacher, power), form)
        (gradient,) = torch.autograd.grad(distance, activation)
        assert gradient.isfinite().all()


def test_low_precision_activations_are_averaged_in_single_precision() -> None:
    activation = torch.full((1, 4096, 1, 2), 1.0, dtype=torch.bfloat16)
    assert attention_map(activation).tolist() == [[[1.0, 1.0]]]
    assert attention_map(activation).dtype == torch.float32


def test_gradients_of_low_precision_activations_keep_its_layout_and_are_rounded_no_worse_than_it() -> None:
    """d mean(A^2) / dA = 2 A / C; bfloat16 rounds a value by at most 2^-8 of it: here the factor and the product."""
    activation = torch.randn(2, 8, 4, 4).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    factors = torch.randn(2, 4, 4)
    (gradient,) = torch.autograd.grad(attention_map(activation), activation, factors)
    assert gradient.dtype == torch.bfloat16
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    expected = 2 / 8 * activation.detach().double() * factors.unsqueeze(1).double()
    torch.testing.assert_close(gradient.double(), expected, rtol=2 * 2**-8, atol=0)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"name": "kd", "temperature": 0}, "greater than 0"),
        ({"name": "kd", "reduction": "mean"}, "unknown key 'reduction'"),
        ({"name": "attention", "form": "papers"}, "'code' or 'paper'"),
        ({"name": "attention", "weight": -1}, "at least 0"),
        ({"name": "attention", "power": 0.5}, "at least 1"),
        ({"name": "kd", "temprature": 4}, "did you mean 'temperature'"),
        ("attenton", "did you mean 'attention'"),
    ],
)
def test_wrong_options_are_named(spec: object, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        OBJECTIVES.parse(spec)


class Lossless(Objective):
    pass


def test_an_objective_without_a_loss_is_named_with_its_file_before_training() -> None:
    with pytest.raises(UserError, match=r"Lossless.*test_objectives\.py, line \d+\) must define `loss`"):
        Lossless().bind(torch.nn.Identity(), torch.nn.Identity(), (1, 8, 8))


def losses_of(objective: Objective, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    student, teacher = (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 5)) for _ in range(2))
    task = Distillation(student, [Teacher(teacher)], [objective], (1, 2, 2))
    return task(Batch(torch.randn(3, 1, 2, 2), labels, torch.arange(3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (lambda logits: logits.square().mean(1), r"got torch\.float32 of shape \[3\]"),
        (lambda logits: logits.mean().item(), r"got float -?\d"),
        (lambda logits: None, "got NoneType None"),
        (lambda logits: logits.argmax(), r"got torch\.int64 of shape \[\]"),
        (lambda logits: logits.detach().mean(), "got one without: it depends on nothing that is trained"),
    ],
)
def test_what_is_no_loss_is_named_with_its_objective_and_file(returned: Any, problem: str) -> None:
    class Wrong(Objective):
        registered_name = "wrong"

        def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Any:
            return returned(student.logits)

    who = r"the objective 'wrong' \(Wrong, .*test_objectives\.py, line \d+\) must be a scalar tensor"
    with pytest.raises(UserError, match=f"{who} .*{problem}"):
        losses_of(Wrong(), torch.arange(3))
    if problem != "got NoneType None":
        with pytest.raises(UserError, match=r"test_objectives\.py, line \d+\)"):
            losses_of(objective_of(lambda student, _teacher, _labels: returned(student)), torch.arange(3))


def test_an_objective_that_needs_classes_names_itself_beside_mixed_labels() -> None:
    with pytest.raises(UserError, match=r"'dkd' \(.*dkd\.py, line \d+\) needs one class for each image"):
        losses_of(OBJECTIVES.parse("dkd"), torch.full((3, 5), 0.2))
