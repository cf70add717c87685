"""The distillation token: its loss against scipy's, what teaches which classifier, and what answers in the end."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.objectives.token import DistillationToken
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from nasdistill.models.base import MODELS
from tests.distill.features import batches, network, train_briefly
from tests.distill.losses import logits

SHAPE: Shape = (3, 8, 8)


def vit(distillation_token: bool = True) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.parse({"name": "vit-12-2", "distillation_token": distillation_token})
    return model.build(SHAPE, 3)


def taught(*specs: object, student: nn.Module | None = None) -> Distillation:
    listed = with_label_term([OBJECTIVES.parse(spec) for spec in specs])
    return Distillation(student or vit(), [Teacher(network("wrn-10-1", SHAPE, 1))], listed, SHAPE).train()


def token(**options: object) -> DistillationToken:
    objective = OBJECTIVES.parse({"name": "token", **options})
    assert isinstance(objective, DistillationToken)
    return objective


def test_hard_and_soft_targets_agree_with_scipy() -> None:
    ours, teacher = logits(0), logits(1)
    said = log_softmax(ours.numpy(), 1)[np.arange(6), teacher.numpy().argmax(1)]
    np.testing.assert_allclose(token().distance(ours, teacher), -said)
    wanted, found = softmax(teacher.numpy() / 2, 1), softmax(ours.numpy() / 2, 1)
    expected = 4 * rel_entr(wanted, found).sum(1)
    np.testing.assert_allclose(token(targets="soft", temperature=2).distance(ours, teacher), expected)


def test_the_teacher_teaches_the_token_and_the_labels_the_other_classifier() -> None:
    task = taught("token")
    (given, _) = batches(SHAPE).epoch(0)
    images = torch.linspace(0.5, 1.5, len(given.images))
    losses = task(given._replace(weights=images))
    assert list(losses) == ["cross-entropy", "token"]
    student = task.network
    of_patches, of_token = student.forward_with_auxiliary(given.images)  # type: ignore[operator]
    classes = task.teacher_ensemble(given.images)[0].logits.argmax(1)
    for name, said, wanted in (("cross-entropy", of_patches, given.labels), ("token", of_token, classes)):
        expected = 0.5 * (images * functional.cross_entropy(said, wanted, reduction="none")).mean()
        torch.testing.assert_close(losses[name], expected)
    for name, path in (("cross-entropy", "token_classifier"), ("token", "classifier")):
        weight = student.get_submodule(path).weight
        assert torch.autograd.grad(losses[name], weight, retain_graph=True, allow_unused=True) == (None,)


def test_the_labels_teach_a_token_that_no_objective_does() -> None:
    for specs in (["kd"], ["kd", {"name": "token", "weight": 0}]):
        task = taught(*specs)
        (given, _) = batches(SHAPE).epoch(0)
        losses = task(given)
        assert list(losses) == ["cross-entropy", "kd", "auxiliary"]
        _, of_token = task.network.forward_with_auxiliary(given.images)  # type: ignore[operator]
        torch.testing.assert_close(losses["auxiliary"], 0.4 * functional.cross_entropy(of_token, given.labels))


def test_mixed_labels_and_none_are_no_matter() -> None:
    """What the token learns are the teacher's classes, whatever the labels are."""
    task = taught("token")
    (given, _) = batches(SHAPE).epoch(0)
    mixed = functional.one_hot(given.labels, 3).float().roll(1, 0)
    assert torch.equal(task(given)["token"], task(given._replace(labels=mixed))["token"])


def test_half_precision_is_computed_in_single() -> None:
    (given, _) = batches(SHAPE).epoch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert taught("token")(given)["token"].dtype == torch.float32


@pytest.mark.parametrize("spec", ["token", {"name": "token", "targets": "soft", "weight": 0.1}])
def test_it_learns_what_the_teacher_says_beside_losses_on_features(spec: object) -> None:
    task = taught(spec, {"name": "attention", "beta": 1, "pairs": [["blocks.1.maps", "groups.2"]]})
    first, last = train_briefly(task, SHAPE, "token", epochs=30)
    assert last < first / 2
    (given, _) = batches(SHAPE).epoch(0)
    student = copy.deepcopy(task.network).eval()
    of_patches, of_token = student.forward_with_auxiliary(given.images)  # type: ignore[operator]
    torch.testing.assert_close(student(given.images), (of_patches + of_token) / 2)


def test_students_without_a_token_are_refused_with_a_way_out() -> None:
    for student in (vit(distillation_token=False), network("wrn-10-1", SHAPE)):
        with pytest.raises(
            UserError, match=r"token: the student has no distillation token .*`distillation_token: true`"
        ):
            taught("token", student=student)


def test_the_published_weights() -> None:
    assert [objective.weight for objective in with_label_term([token()])] == [0.5, 0.5]
    assert token().temperature == 3


def test_a_token_that_learns_beside_a_classifier_that_nobody_teaches_is_refused() -> None:
    with pytest.raises(UserError, match=r"token: no objective teaches the student's other classifier, .* add `kd`"):
        taught({"name": "token", "weight": 1})
    taught({"name": "token", "weight": 0.5}, {"name": "kd", "weight": 0.5})
