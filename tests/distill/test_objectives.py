"""Objectives against closed forms, against numpy and scipy, and against each other's reductions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.distill.objectives.attention import attention_distance, attention_map
from nasdistill.distill.objectives.kd import softened_divergence
from nasdistill.errors import SpecError

DOUBLE = torch.float64


def logits(seed: int, images: int = 6, classes: int = 10) -> torch.Tensor:
    return 3 * torch.randn(images, classes, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def loss_of(spec: object, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    objective = OBJECTIVES.parse(spec)
    loss: torch.Tensor = objective.loss(Outputs(student, {}), Outputs(teacher, {}), labels)
    return loss


def test_kd_of_two_classes_in_closed_form() -> None:
    # t/T = (ln 3, 0) gives (3/4, 1/4); s/T = (0, 0) gives (1/2, 1/2).
    temperature = 4.0
    teacher = torch.tensor([[temperature * math.log(3), 0.0]], dtype=DOUBLE)
    student = torch.zeros(1, 2, dtype=DOUBLE)
    expected = temperature**2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert softened_divergence(student, teacher, temperature, "batchmean").item() == pytest.approx(expected)
    assert softened_divergence(student, teacher, temperature, "mean").item() == pytest.approx(expected / 2)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kd_agrees_with_scipy(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    divergence = rel_entr(softmax(teacher.numpy() / temperature, 1), softmax(student.numpy() / temperature, 1))
    for reduction, expected in (("batchmean", divergence.sum(1).mean()), ("mean", divergence.mean())):
        loss = loss_of({"name": "kd", "temperature": temperature, "reduction": reduction}, student, teacher, None)
        assert loss.item() == pytest.approx(temperature**2 * expected)


def test_batchmean_is_the_number_of_classes_times_mean() -> None:
    student, teacher = logits(0, classes=7), logits(1, classes=7)
    ratio = softened_divergence(student, teacher, 4, "batchmean") / softened_divergence(student, teacher, 4, "mean")
    assert ratio.item() == pytest.approx(7)


def test_kd_has_the_gradient_of_the_published_cross_entropy() -> None:
    """Hinton's a*T^2*CE(softmax(t/T), softmax(s/T)) differs by a constant: d/ds = T*(softmax(s/T) - softmax(t/T))/N."""
    temperature = 4.0
    student, teacher = logits(0).requires_grad_(), logits(1)
    (gradient,) = torch.autograd.grad(softened_divergence(student, teacher, temperature, "batchmean"), student)
    ours, theirs = (softmax(value.detach().numpy() / temperature, 1) for value in (student, teacher))
    np.testing.assert_allclose(gradient.numpy(), temperature * (ours - theirs) / len(ours))


def test_t_squared_keeps_the_gradient_at_high_temperature() -> None:
    """For large T the gradient tends to (s - t)/(N*C) for centred logits (Hinton et al. 2015, equation 4)."""
    student, teacher = (value - value.mean(1, keepdim=True) for value in (logits(0), logits(1)))
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(softened_divergence(student, teacher, 1e4, "batchmean"), student)
    torch.testing.assert_close(gradient, (student - teacher).detach() / student.numel(), rtol=2e-3, atol=1e-6)


def test_kd_is_no_squared_error_of_probabilities_and_vanishes_with_the_teacher() -> None:
    student, teacher = logits(0), logits(1)
    squared = torch.nn.functional.mse_loss(student.softmax(1), teacher.softmax(1))
    assert not torch.isclose(softened_divergence(student, teacher, 1, "mean"), squared)
    assert softened_divergence(teacher, teacher, 4, "batchmean").item() == 0


def test_older_published_constants_of_kd_and_at_are_a_factor_of_ten_classes() -> None:
    """2*a*T^2*KL_mean with a=0.9, T=4, C=10 is 2.88*KL_batchmean (facts/distillation.md, the reduction trap)."""
    student, teacher = logits(0), logits(1)
    divergence = rel_entr(softmax(teacher.numpy() / 4, 1), softmax(student.numpy() / 4, 1)).sum(1).mean()
    published = 2 * 0.9 * softened_divergence(student, teacher, 4, "mean")
    assert published.item() == pytest.approx(2.88 * divergence)


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
    assert loss_of("logits-mse", student, teacher, None).item() == (1 + 0 + 0 + 9) / 4


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


@pytest.mark.parametrize("form", ["code", "paper"])
def test_gradients_of_attention_agree_with_finite_differences(form: str) -> None:
    student = torch.randn(2, 3, 4, 4, dtype=DOUBLE, requires_grad=True)
    teacher = attention_map(torch.randn(2, 5, 2, 2, dtype=DOUBLE))
    assert torch.autograd.gradcheck(lambda value: attention_distance(attention_map(value), teacher, form), (student,))


@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
def test_gradients_of_kd_agree_with_finite_differences(reduction: str) -> None:
    student, teacher = logits(0, 3, 4).requires_grad_(), logits(1, 3, 4)
    assert torch.autograd.gradcheck(lambda value: softened_divergence(value, teacher, 4.0, reduction), (student,))


@pytest.mark.parametrize("form", ["code", "paper"])
def test_a_student_that_attends_as_its_teacher_or_nowhere_has_finite_gradients(form: str) -> None:
    teacher = torch.rand(2, 3, 4, 4)
    for activation in (teacher.clone(), torch.zeros(2, 3, 4, 4)):
        activation.requires_grad_()
        distance = attention_distance(attention_map(activation), attention_map(teacher), form)
        (gradient,) = torch.autograd.grad(distance, activation)
        assert gradient.isfinite().all()


def test_low_precision_activations_are_averaged_in_single_precision() -> None:
    activation = torch.full((1, 4096, 1, 2), 1.0, dtype=torch.bfloat16)
    assert attention_map(activation).tolist() == [[[1.0, 1.0]]]
    assert attention_map(activation).dtype == torch.float32


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"name": "kd", "temperature": 0}, "greater than 0"),
        ({"name": "kd", "reduction": "sum"}, "'batchmean' or 'mean'"),
        ({"name": "attention", "form": "papers"}, "'code' or 'paper'"),
        ({"name": "attention", "weight": -1}, "greater than or equal to 0"),
        ({"name": "kd", "temprature": 4}, "did you mean 'temperature'"),
        ("attenton", "did you mean 'attention'"),
    ],
)
def test_wrong_options_are_named(spec: object, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        OBJECTIVES.parse(spec)
