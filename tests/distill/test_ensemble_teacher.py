"""An ensemble as a teacher: one network with one answer, and no features of its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasdistill.data.base import Normalisation
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import SpecError
from nasdistill.models.base import MODELS
from nasdistill.training.batches import Batch

SHAPE = (3, 8, 8)
DATA, OTHER = Normalisation(mean=(0.2,) * 3, std=(0.5,) * 3), Normalisation(mean=(0.4,) * 3, std=(0.25,) * 3)
MEMBERS = {"wrn-10-1": (OTHER, 3.0), "resnet-8": (DATA, 1.0)}


def networks(*names: str) -> list[nn.Module]:
    torch.manual_seed(3)
    return [MODELS.parse(name).build(SHAPE, 4).eval() for name in names]


def ensemble() -> Teacher:
    members = [
        {"model": name, "normalisation": own.model_dump(), "weight": weight} for name, (own, weight) in MEMBERS.items()
    ]
    model = MODELS.parse({"name": "ensemble", "members": members, "normalisation": OTHER.model_dump()})
    return Teacher(model.of(networks(*MEMBERS)), OTHER)


def separate() -> list[Teacher]:
    pairs = zip(networks(*MEMBERS), MEMBERS.values(), strict=True)
    return [Teacher(network, own, weight) for network, (own, weight) in pairs]


def taught(teachers: list[Teacher], spec: object) -> Distillation:
    torch.manual_seed(5)
    student = MODELS.parse("wrn-10-1").build(SHAPE, 4)
    return Distillation(student, teachers, with_label_term([OBJECTIVES.parse(spec)]), SHAPE, normalisation=DATA)


def batch() -> Batch:
    return Batch(torch.randn(6, *SHAPE), torch.arange(6) % 4, torch.arange(6))


def test_it_teaches_what_its_members_teach_together() -> None:
    given = batch()
    found, expected = taught([ensemble()], "kd"), taught(separate(), "kd")
    torch.testing.assert_close(
        found.teacher_ensemble(given.images)[0].logits, expected.teacher_ensemble(given.images)[0].logits
    )
    torch.testing.assert_close(found(given), expected(given))


def test_features_are_those_of_a_member_that_is_named() -> None:
    pairs = [["groups.0", "members.0.groups.0"], ["groups.2", "members.1.groups.2"]]
    assert taught([ensemble()], {"name": "attention", "pairs": pairs})(batch())["attention"].item() > 0


@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        ("attention", "attention: the teacher has no feature points of its own; give the pairs of points"),
        ("rkd", "rkd: the teacher is an ensemble, whose members have an embedding each; give the pair of points"),
    ],
)
def test_no_member_is_taken_for_all(objective: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        taught([ensemble()], objective)
