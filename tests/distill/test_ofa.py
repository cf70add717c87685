"""One-for-all distillation: its loss by a plain loop, its branches by their shapes, and pairs across families."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.ofa import Branches, branch, enhanced_cross_entropy
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from nasdistill.models.ensemble import EnsembleNetwork
from tests.distill.features import batches, network, train_briefly
from tests.distill.losses import DOUBLE, logits

SHAPE = (3, 8, 8)
LABELS = torch.tensor([0, 9, 3, 3, 1, 5])


def ofa(student: str = "wrn-10-1", teacher: str = "mlp-16", **options: object) -> Distillation:
    networks = network(student, SHAPE), network(teacher, SHAPE, 1)
    return Distillation(networks[0], [Teacher(networks[1])], [OBJECTIVES.parse({"name": "ofa", **options})], SHAPE)


def branches_of(task: Distillation) -> Branches:
    loss = task.learned["ofa"]
    assert isinstance(loss, Branches)
    return loss


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("gamma", [1.0, 1.5])
def test_the_loss_agrees_with_a_loop_over_images_and_classes(gamma: float, temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    found = enhanced_cross_entropy(student, teacher, LABELS, gamma, temperature)
    for image, label in enumerate(LABELS.tolist()):
        p, log_q = softmax(teacher[image] / temperature), log_softmax(student[image] / temperature)
        expected = -((1 + p[label]) ** gamma - 1) * log_q[label]
        expected -= sum(p[c] ** gamma * log_q[c] for c in range(10) if c != label)
        assert found[image].item() == pytest.approx(expected)


def test_without_enhancement_it_is_the_cross_entropy_with_the_teacher() -> None:
    student, teacher = logits(0), logits(1)
    expected = nn.functional.cross_entropy(student, teacher.softmax(1), reduction="none")
    torch.testing.assert_close(enhanced_cross_entropy(student, teacher, LABELS, gamma=1), expected)


def test_gradients_agree_with_finite_differences() -> None:
    teacher, labels = logits(1, 3, 4), torch.tensor([0, 3, 1])
    student = logits(0, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: enhanced_cross_entropy(given, teacher, labels, 1.5), student)


def test_a_branch_halves_its_map_and_doubles_its_channels_up_to_the_width() -> None:
    shapes: list[list[int]] = []
    made = branch(4, width=10, classes=3, halvings=2)
    for part in made:
        part.register_forward_hook(lambda *given: shapes.append(list(given[2].shape[1:])))
    assert made(torch.randn(2, 4, 8, 8)).shape == (2, 3)
    convolved = [shape for shape, part in zip(shapes, made, strict=True) if isinstance(part, nn.Conv2d)]
    # Each block: depthwise with stride 2, pointwise, depthwise, pointwise to more channels.
    first = [[4, 4, 4], [4, 4, 4], [4, 4, 4], [8, 4, 4]]
    assert convolved == [*first, [8, 2, 2], [8, 2, 2], [8, 2, 2], [10, 2, 2]]
    assert [type(part) for part in branch(4, 10, 3, 0)] == [nn.Conv2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]


def test_a_step_is_the_sum_over_branches_and_logits_weighed_by_images() -> None:
    task = ofa(weight=2.0, logits_weight=3.0).double()
    (given,) = (batch._replace(images=batch.images.double()) for batch in batches(SHAPE, 12).epoch(0))
    weights = torch.linspace(0.5, 1.5, 12, dtype=DOUBLE)
    found = task(given._replace(weights=weights))["ofa"].item()
    student, loss = task.network, branches_of(task)
    features = [student.stem(given.images)]  # type: ignore[operator]
    for group in student.groups:  # type: ignore[union-attr]
        features.append(group(features[-1]))
    said = [answers(each) for answers, each in zip(loss.branches, features[1:], strict=True)]
    taught = task.teacher_ensemble(given.images)[0].logits.double()
    losses = [enhanced_cross_entropy(each, taught, given.labels, 1.5) for each in (*said, student(given.images))]
    expected = ((sum(losses[:-1]) + 3 * losses[-1]) * weights).mean()
    # The teacher's logits reach the loss in single precision.
    assert found == pytest.approx(2 * expected.item(), rel=1e-6)


def test_branches_lead_to_the_larger_embedding_and_the_seed_alone_draws_them() -> None:
    """The embeddings have 64 and 128 values; the groups of the student are 16, 32 and 64 wide."""
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(drawn))
        task = ofa(teacher="wrn-10-2")
        task.prepare(batches(SHAPE), seed)
        drawn.append(torch.cat([parameter.detach().flatten() for parameter in task.learned.parameters()]))
        assert [answers[-1].in_features for answers in branches_of(task).branches] == [128] * 3  # type: ignore[index, union-attr]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_half_precision_is_computed_in_single() -> None:
    task = ofa()
    (given, _) = batches(SHAPE).epoch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert task(given)["ofa"].dtype == torch.float32


def test_a_teacher_of_another_family_teaches_every_branch_and_nothing_of_them_is_kept() -> None:
    task = ofa()
    first, last = train_briefly(task, SHAPE, "ofa")
    assert last < 0.98 * first  # a cross-entropy, whose least value is not 0
    assert all(parameter.grad is not None for parameter in task.learned.parameters())
    assert "branch" not in " ".join(task.network.state_dict())


def test_students_without_maps_and_teachers_without_an_embedding_are_refused_with_a_way_out() -> None:
    with pytest.raises(UserError, match="the student has no feature points of its own; name layers of it"):
        ofa(student="mlp-16")
    with pytest.raises(UserError, match=r"but the student's module 'hidden.0' puts out \[16\] per image; name layers"):
        ofa(student="mlp-16", points=["hidden.0"])
    student = network("wrn-10-1", SHAPE)
    members = [network("mlp-8", SHAPE, seed) for seed in (0, 1)]
    several = EnsembleNetwork(members, [nn.Identity(), nn.Identity()], (1, 1), "probabilities")
    with pytest.raises(UserError, match=r"the teacher is an ensemble, .*; give `width`"):
        OBJECTIVES.parse("ofa").bind(student, several, SHAPE)
    term = OBJECTIVES.parse({"name": "ofa", "width": 7}).bind(student, several, SHAPE)
    assert isinstance(term.loss, Branches)
    assert term.teacher_points == ()


def test_the_published_gamma() -> None:
    defaults = OBJECTIVES.parse("ofa")
    assert (defaults.gamma, defaults.temperature, defaults.weight) == (1.5, 1.0, 1.0)  # type: ignore[attr-defined]
    assert math.isclose(defaults.logits_weight, 1.0)  # type: ignore[attr-defined]
