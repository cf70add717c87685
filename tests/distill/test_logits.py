"""Standardised logits: a z-score per image, for every loss on logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import zscore

from nasdistill.distill.logits import LogitObjective, softened_divergence, standardised
from nasdistill.distill.objectives import Outputs
from nasdistill.training.batches import Batch
from tests.distill.losses import DOUBLE, logits, loss_of

AGREEING = ["dist", "dkd", "kd", "kd-lambda", "kd-mean", "logits-mse", "mlkd"]
NAMES = [*AGREEING, "rld", "ttm", "wttm"]  # of these the student that repeats its teacher is not at the minimum
LABELS = torch.tensor([0, 9, 3, 3, 1, 5])


def test_by_hand() -> None:
    # Mean 2, squared deviations 1 + 0 + 1 over C - 1 = 2.
    torch.testing.assert_close(standardised(torch.tensor([[3.0, 2.0, 1.0]])), torch.tensor([[1.0, 0.0, -1.0]]))


def test_it_is_scipys_z_score_with_the_deviation_of_a_sample() -> None:
    given = logits(0)
    np.testing.assert_allclose(standardised(given).numpy(), zscore(given.numpy(), axis=1, ddof=1), rtol=1e-6)


def test_the_papers_form_is_this_one_at_another_temperature() -> None:
    """The paper divides by the population's deviation: z-scores larger by sqrt(C / (C - 1)), here C = 10."""
    student, teacher = logits(0), logits(1)
    paper = [torch.from_numpy(zscore(value.numpy(), axis=1, ddof=0)) for value in (student, teacher)]
    here = softened_divergence(standardised(student), standardised(teacher), 2.0 * (9 / 10) ** 0.5)
    torch.testing.assert_close(here, softened_divergence(*paper, 2.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_option_of_every_loss_standardises_both_networks(name: str) -> None:
    student, teacher = logits(0), logits(1)
    scores = [torch.from_numpy(zscore(value.numpy(), axis=1, ddof=1)) for value in (student, teacher)]
    loss = loss_of({"name": name, "standardise": True}, student, teacher, LABELS)
    torch.testing.assert_close(loss, loss_of(name, *scores, LABELS), rtol=1e-5, atol=0)
    assert not torch.isclose(loss, loss_of(name, student, teacher, LABELS))


@pytest.mark.parametrize("name", AGREEING)
def test_it_makes_every_loss_blind_to_scale_and_shift(name: str) -> None:
    """Why it exists: a small student cannot reach the size of its teacher's logits, and need not."""
    teacher = logits(1)
    spec = {"name": name, "standardise": True}
    assert loss_of(spec, 0.1 * teacher + 7, teacher, LABELS).item() == pytest.approx(0, abs=1e-6)
    assert loss_of(name, 0.1 * teacher + 7, teacher, LABELS).item() > 1e-3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("standardise", [False, True])
def test_a_student_that_says_nothing_yet_or_all_that_its_teacher_says_has_finite_gradients(
    name: str, standardise: bool
) -> None:
    """A classifier that starts at zero puts out equal logits; their deviation is 0."""
    teacher = logits(1).float()
    for student in (torch.zeros_like(teacher), teacher.clone(), 100 * teacher):
        student.requires_grad_()
        loss = loss_of({"name": name, "standardise": standardise}, student, teacher, LABELS)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_a_subclass_gets_logits_and_labels() -> None:
    class Labelled(LogitObjective):
        def distance(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return (student - teacher)[torch.arange(len(labels)), labels]

    student, teacher = torch.eye(3, dtype=DOUBLE), torch.zeros(3, 3, dtype=DOUBLE)
    batch = Batch(torch.empty(0), torch.tensor([0, 1, 0]), torch.arange(3))
    loss = Labelled().loss(Outputs(student, {}), Outputs(teacher, {}), batch)
    assert loss.item() == pytest.approx(2 / 3)  # the mean over the images
