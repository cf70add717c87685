"""The reused classifier: what the student is made of, what its loss compares, and which classifier is kept."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import MODELS, NetworkSpec, load_network, save_network
from nasdistill.models.ensemble import EnsembleNetwork
from nasdistill.models.inspection import count_parameters
from nasdistill.models.reused_classifier import classifier_path
from nasdistill.models.simulated_int8 import SimulatedInt8
from tests.distill.features import batches, network, train, train_briefly

SHAPE = (3, 8, 8)


def spec_of(model: object = "wrn-10-1", features: int = 128, **options: object) -> NetworkSpec:
    whole = {"name": "reused-classifier", "model": model, "features": features, **options}
    return NetworkSpec(model=MODELS.parse(whole), shape=SHAPE, classes=3)


def taught(*teachers: nn.Module, student: nn.Module | None = None) -> Distillation:
    torch.manual_seed(0)
    learner = student or spec_of().build()
    return Distillation(learner, [*map(Teacher, teachers)], with_label_term([OBJECTIVES.parse("simkd")]), SHAPE)


def test_the_student_is_a_trunk_a_projector_and_a_classifier() -> None:
    built = spec_of().build().eval()
    whole = network("wrn-10-1", SHAPE)
    trunk = count_parameters(whole) - 65 * 3
    projector = 64 * 64 + 2 * 64 + 64 * 64 + 2 * 64 + 64 * 128 + 2 * 128
    assert count_parameters(built) == trunk + projector + 129 * 3
    images = torch.randn(4, *SHAPE)
    whole.load_state_dict(built.network.state_dict(), strict=False)  # type: ignore[union-attr]
    embeddings: list[torch.Tensor] = []
    whole.get_submodule("classifier").register_forward_pre_hook(lambda _m, inputs: embeddings.append(inputs[0]))
    whole.eval()(images)
    expected = built.classifier(built.projector(embeddings[0]))  # type: ignore[operator]
    torch.testing.assert_close(built(images), expected)
    assert built.feature_points == ("network.groups.0", "network.groups.1", "network.groups.2")


def test_drop_path_of_the_model_rises_behind_the_projector_too() -> None:
    built = spec_of({"name": "darts", "genotype": "DARTS_V2", "cells": 3, "channels": 4, "drop_path": 0.3}).build()
    task = taught(network("wrn-10-2", SHAPE, 1), student=copy.deepcopy(built))
    task.begin_epoch(1, 3)
    found = [each.network._drop_path_now for each in (task.network, built)]  # type: ignore[union-attr]
    assert found == pytest.approx([0.1, 0.0])
    assert not hasattr(spec_of().build(), "set_drop_path")


def test_the_loss_is_the_mean_squared_difference_of_the_embeddings_weighed_by_images() -> None:
    teacher = network("wrn-10-2", SHAPE, 1)
    task = taught(teacher).train()
    (given, _) = batches(SHAPE).epoch(0)
    weights = torch.linspace(0.5, 1.5, len(given.images))
    losses = task(given._replace(weights=weights))
    assert list(losses) == ["simkd"]  # without labels
    student, teacher = copy.deepcopy(task.network), copy.deepcopy(teacher).eval()
    teacher.set_submodule("classifier", nn.Identity())
    ours = student.projector(student.network(given.images))  # type: ignore[operator, union-attr]
    expected = (weights[:, None] * (ours - teacher(given.images)) ** 2).mean()
    torch.testing.assert_close(losses["simkd"], expected)


def test_the_student_comes_to_answer_as_its_teacher_with_its_very_classifier(tmp_path: Path) -> None:
    teacher = network("wrn-10-2", SHAPE, 1).eval()
    task = taught(teacher)
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    assert {name for name, each in task.named_parameters() if not each.requires_grad} == {
        "network.classifier.weight",
        "network.classifier.bias",
    }
    losses = train(task, list(batches(SHAPE).epoch(0)) * 30, optimizer, "simkd")
    assert losses[-1] < losses[0] / 2
    save_network(tmp_path, spec_of(), task.network)
    spec, kept = load_network(tmp_path)
    assert spec == spec_of()
    for name, value in teacher.get_submodule("classifier").state_dict().items():
        assert torch.equal(kept.state_dict()[f"classifier.{name}"], value)


def test_a_projector_without_its_last_rectifier_reaches_a_transformers_embedding() -> None:
    transformer = network("vit-12-1", SHAPE)
    with pytest.raises(UserError, match=r"simkd: .* has negative values, .* give the student `rectified: false`"):
        taught(transformer, student=spec_of(features=12).build())
    task = taught(transformer, student=spec_of(features=12, rectified=False).build())
    (given, _) = batches(SHAPE).epoch(0)
    assert task.network.projector(task.network.network(given.images)).min() < 0  # type: ignore[operator, union-attr]


def test_a_student_that_computes_in_8_bits_reuses_it_too() -> None:
    teacher, student = network("wrn-10-2", SHAPE, 1), spec_of().build()
    simulated = SimulatedInt8(student, SHAPE)
    simulated.calibrate([torch.randn(8, *SHAPE)])
    task = taught(teacher, student=simulated)
    assert torch.equal(student.classifier.weight, teacher.classifier.weight)  # type: ignore[union-attr, arg-type]
    first, last = train_briefly(task, SHAPE, "simkd")
    assert last < first


def test_what_it_does_not_fit_is_refused_with_a_way_out() -> None:
    teacher = network("wrn-10-2", SHAPE, 1)
    with pytest.raises(UserError, match=r"simkd: the student has no place .*reused-classifier"):
        taught(teacher, student=network("wrn-10-1", SHAPE))
    with pytest.raises(UserError, match=r"reads 128 values, and .* gives 64; give the student `features: 128`"):
        taught(teacher, student=spec_of(features=64).build())
    with pytest.raises(SpecError, match="one teacher alone, and here are 2"):
        taught(teacher, network("wrn-10-2", SHAPE, 2))
    members = [network("mlp-8", SHAPE, seed) for seed in (0, 1)]
    several = EnsembleNetwork(members, [nn.Identity(), nn.Identity()], (1, 1), "probabilities")
    with pytest.raises(UserError, match="the teacher has no linear layer whose outputs are its logits"):
        taught(several)


def test_the_classifier_is_found_in_other_families_and_in_the_students_own_kind() -> None:
    assert classifier_path(network("torchvision:resnet18", SHAPE), SHAPE, "network") == "fc"
    assert classifier_path(spec_of().build(), SHAPE, "network") == "classifier"
    with pytest.raises(UserError, match="the model 'vit' has no linear layer whose outputs are its logits"):
        spec_of({"name": "vit-12-1", "distillation_token": True}).build()
