"""Networks that read images at a size of their own: what they compute is what they compute of resized images."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import interpolate

from nasdistill.data.base import Data, Shape
from nasdistill.data.preparation import at_size
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import SpecError, UserError
from nasdistill.growth.plan import size
from nasdistill.models.base import MODELS, NetworkSpec, load_network, load_spec
from nasdistill.models.inspection import multiply_adds
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES
from nasdistill.training.batches import Batch
from nasdistill.training.tasks import logits_with_auxiliary
from tests.stages.parts import context_in, few_digits, network_artifact


@pytest.fixture(scope="module")
def data() -> Data:
    """Digits of 8x8 pixels, made 16x16."""
    return at_size(few_digits(), (16, 16))


def spec(model: Any, side: int = 16) -> NetworkSpec:
    return NetworkSpec(model=MODELS.parse(model), shape=(1, side, side), classes=10)


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def small(pixels: torch.Tensor, size: tuple[int, int] = (8, 8)) -> torch.Tensor:
    return interpolate(pixels, size, mode="bilinear", antialias=True)


def test_a_network_with_a_size_is_the_same_network_on_resized_images() -> None:
    resizing, plain = spec("wrn-10-1@8"), spec("wrn-10-1", 8)
    assert resizing.reads == plain.shape
    network, same = resizing.build().eval(), plain.build().eval()
    same.load_state_dict(network.state_dict())
    for each in (network, copy.deepcopy(network)):
        torch.testing.assert_close(each(images()), same(small(images())), rtol=0, atol=0)
        torch.testing.assert_close(each(small(images())), same(small(images())), rtol=0, atol=0)
    assert multiply_adds(network, resizing.shape) == size(resizing, "flops") == size(plain, "flops")


def test_an_auxiliary_head_reads_at_the_size_too() -> None:
    model = {"name": "darts", "genotype": "DARTS_V2", "channels": 4, "cells": 3, "auxiliary": True, "size": 8}
    network = spec(model).build().train()
    torch.manual_seed(0)
    found = logits_with_auxiliary(network, images())
    torch.manual_seed(0)
    expected = logits_with_auxiliary(network, small(images()))
    assert found[1] is not None
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_size_is_part_of_the_spec() -> None:
    model = MODELS.parse({"name": "wrn", "depth": 10, "width": 1, "size": "8x12"})
    assert model.spec()["size"] == "8x12"
    assert MODELS.parse(model.spec()) == model == MODELS.parse("wrn-10-1@8x12")
    assert "size" not in MODELS.parse("wrn-10-1").spec()
    for text, words in (("wrm-10-1@8", "did you mean 'wrn"), ("wrn-10-1@small", "32x32")):
        with pytest.raises(SpecError, match=words):
            MODELS.parse(text)
    with pytest.raises(UserError, match="is for images"):
        NetworkSpec(model=MODELS.parse("mlp-8@8"), shape=(1, 1, 40), classes=2).build()


def test_student_and_teacher_each_read_the_batch_at_their_own_size() -> None:
    student, teacher = spec("wrn-10-1@8").build(), spec("wrn-10-2").build()
    objectives = [registry("objectives").parse({"name": name, "weight": 1}) for name in ("kd", "attention")]
    task = Distillation(student, [Teacher(teacher)], objectives, (1, 16, 16))
    batch = Batch(images(), torch.arange(4), torch.arange(4))
    (outputs,) = task.teacher_ensemble(batch.images)
    torch.testing.assert_close(outputs.logits, teacher.eval()(images()), rtol=1e-4, atol=1e-5)
    losses = task(batch)
    assert losses.keys() == {"kd", "attention"}
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_a_search_in_a_space_with_a_size_finds_a_network_with_it(tmp_path: Path, data: Data) -> None:
    space = {"name": "darts-tiny", "size": 8}
    stage = build(STAGES.get("search"), {"space": space, "strategy": "random"})
    context = context_in(tmp_path, data)
    stage.run({}, context)
    found = load_spec(context.folder)
    assert (found.shape, found.reads) == (data.shape, (1, 8, 8))
    assert found.model.size == (8, 8)


@pytest.mark.parametrize(("wanted", "reads"), [("own", (1, 8, 8)), (6, (1, 6, 6)), ("6x8", (1, 6, 8))])
def test_a_trained_network_is_adapted_to_read_larger_images_at_its_own_size_or_another(
    tmp_path: Path, data: Data, wanted: object, reads: Shape
) -> None:
    given = network_artifact(tmp_path / "given", few_digits(), "wrn-10-1")
    context = context_in(tmp_path, data)
    evaluate = build(STAGES.get("evaluate"), {"network": "given"})
    with pytest.raises(SpecError, match="`size: own`"):
        evaluate.run({"network": given}, context)
    build(STAGES.get("adapt"), {"network": "given", "size": wanted}).run({"network": given}, context)
    written, network = load_network(context.folder)
    assert (written.shape, written.reads) == (data.shape, reads)
    expected = load_network(given.folder)[1](small(images(), reads[1:]))
    torch.testing.assert_close(network(images()), expected, rtol=0, atol=0)


def test_an_export_reads_images_of_the_networks_own_size(tmp_path: Path, data: Data) -> None:
    given = network_artifact(tmp_path / "given", data, "mlp-8@8")
    context = context_in(tmp_path, data)
    build(STAGES.get("export"), {"network": "given", "format": "torch"}).run({"network": given}, context)
    exported = torch.export.load(context.folder / "network.pt2").module()
    torch.testing.assert_close(exported(small(images())), load_network(given.folder)[1](images()), rtol=1e-5, atol=1e-6)


def test_a_data_set_at_another_size_keeps_all_else(data: Data) -> None:
    smaller = at_size(data, (8, 8))
    assert smaller.shape == (1, 8, 8)
    expected = small(data.test.images.float())  # type: ignore[union-attr]
    assert (smaller.test.images.float() - expected).abs().max() <= 1  # type: ignore[union-attr]
    assert at_size(smaller, (8, 8)).train is smaller.train
    assert dataclasses.replace(smaller, train=data.train, validation=data.validation, test=data.test) == data
