"""Contrastive distillation by hand and by loops: draws, memory, loss, gradients, and what a checkpoint holds."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from nasdistill.distill.memory import MemoryBank, OtherClasses
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.crd import Contrast
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from tests.distill.features import batches, network, optimizer_of, train, train_briefly

SHAPE = (3, 8, 8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bank_of(entries: list[list[float]]) -> MemoryBank:
    bank = MemoryBank(len(entries), len(entries[0]), generator()).double()
    bank.entries.copy_(torch.tensor(entries, dtype=torch.float64))
    return bank


def crd(**options: object) -> Distillation:
    spec = {"name": "crd", "negatives": 16, "dimensions": 8, **options}
    student, teacher = network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE, 1)
    return Distillation(student, [Teacher(teacher)], [OBJECTIVES.parse(spec)], SHAPE)


def contrast_of(task: Distillation) -> Contrast:
    contrast = task.learned["crd"]
    assert isinstance(contrast, Contrast)
    return contrast


def looped(
    embeddings: list[list[float]], entries: list[list[float]], candidates: list[list[int]], temperature: float
) -> float:
    """As the released code has it, without its 1e-7."""
    others = len(candidates[0]) - 1
    raw = [
        [math.exp(sum(a * b for a, b in zip(vector, entries[image], strict=True)) / temperature) for image in row]
        for vector, row in zip(embeddings, candidates, strict=True)
    ]
    constant = len(entries) * sum(map(sum, raw)) / (len(raw) * (others + 1))
    noise = others / len(entries)
    total = 0.0
    for row in raw:
        own, *rest = (value / constant for value in row)
        total += math.log(own / (own + noise)) + sum(math.log(noise / (other + noise)) for other in rest)
    return -total / len(raw)


def test_two_images_by_hand() -> None:
    """One embedding, its own memory along it, one other across: P is 2e/(1+e)/2 and 2/(1+e)/2, noise 1/2."""
    bank = bank_of([[1.0, 0.0], [0.0, 1.0]])
    found = bank.contrast(torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([[0, 1]]), temperature=1.0)
    constant = 2 * (math.e + 1) / 2
    own, other = math.e / constant, 1 / constant
    expected = -math.log(own / (own + 0.5)) - math.log(0.5 / (other + 0.5))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_the_loss_is_the_published_one() -> None:
    embeddings = nn.functional.normalize(torch.randn(3, 4, dtype=torch.float64, generator=generator(1)), dim=1)
    bank = MemoryBank(7, 4, generator()).double()
    candidates = torch.randint(7, (3, 6), generator=generator(2))
    expected = looped(embeddings.tolist(), bank.entries.tolist(), candidates.tolist(), 0.07)
    assert float(bank.contrast(embeddings, candidates, 0.07)) == pytest.approx(expected, rel=1e-9)


def test_the_constant_is_that_of_the_first_batch() -> None:
    bank = bank_of([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    one = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    bank.contrast(one, torch.tensor([[0, 1, 2]]), 1.0)
    constant = math.e + 1 + 1 / math.e
    assert float(bank.log_constant.exp()) == pytest.approx(constant)
    again = bank.contrast(one, torch.tensor([[1, 0]]), 1.0)
    own, other = 1 / constant, math.e / constant
    assert float(bank.log_constant.exp()) == pytest.approx(constant)
    assert float(again) == pytest.approx(-math.log(own / (own + 1 / 3)) - math.log(1 / 3 / (other + 1 / 3)))


def test_small_temperatures_do_not_overflow() -> None:
    bank = MemoryBank(2, 2, generator())
    bank.entries.copy_(torch.eye(2))
    assert float(bank.contrast(torch.tensor([[1.0, 0.0]]), torch.tensor([[0, 1]]), 0.001)) < math.inf


def test_memory_moves_by_its_momentum_and_keeps_length_one() -> None:
    """0.25*(1, 0) + 0.75*(0, 1) = (1, 3)/4, of length sqrt(10)/4."""
    bank = bank_of([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])
    bank.update(torch.tensor([0]), torch.tensor([[0.0, 1.0]], dtype=torch.float64), momentum=0.25)
    assert bank.entries[0].tolist() == pytest.approx([1 / math.sqrt(10), 3 / math.sqrt(10)])
    assert bank.entries[1:].tolist() == [[0.6, 0.8], [0.0, -1.0]]


def test_gradients_are_those_of_the_pair_and_memory_has_none() -> None:
    bank = MemoryBank(5, 3, generator()).double()
    candidates = torch.tensor([[0, 3, 4], [1, 2, 2]])
    embeddings = torch.randn(2, 3, dtype=torch.float64, generator=generator(1)).requires_grad_()
    bank.contrast(embeddings, candidates, 0.5)
    assert torch.autograd.gradcheck(lambda given: bank.contrast(given, candidates, 0.5), embeddings)
    assert not bank.entries.requires_grad
    loss = bank.contrast(embeddings, candidates, 0.5)
    (expected,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    bank.update(torch.tensor([0, 1]), embeddings, 0.5)
    loss.backward()
    assert embeddings.grad is not None
    assert torch.equal(embeddings.grad, expected), "memory is updated behind the loss, not inside it"
    assert not bank.entries.requires_grad


def test_memory_starts_with_vectors_of_mean_squared_length_one() -> None:
    entries = MemoryBank(2000, 12, generator()).entries
    assert float(entries.square().sum(dim=1).mean()) == pytest.approx(1, abs=0.03)
    assert float(entries.abs().max()) <= math.sqrt(3 / 12)


def test_negatives_are_of_other_classes_and_each_is_as_likely() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 4, 0, 1])
    torch.manual_seed(0)
    drawn = OtherClasses(labels).sample(torch.tensor([0, 1, 2, 4]), 60000)
    assert drawn.shape == (4, 60000)
    for label, row in zip((0, 1, 2, 4), drawn, strict=True):
        allowed = labels != label
        frequencies = row.bincount(minlength=9) / len(row)
        assert not frequencies[~allowed].any()
        torch.testing.assert_close(
            frequencies[allowed], torch.full((int(allowed.sum()),), 1 / int(allowed.sum())), rtol=0.05, atol=0
        )


def test_fewer_images_than_negatives_are_drawn_again() -> None:
    drawn = OtherClasses(torch.tensor([0, 0, 1])).sample(torch.tensor([0, 1]), 50)
    assert set(drawn[0].tolist()) == {2}
    assert set(drawn[1].tolist()) == {0, 1}


def test_images_of_one_class_alone_are_refused() -> None:
    with pytest.raises(
        UserError, match="all 4 training images have the label 2, and crd needs images of other classes"
    ):
        OtherClasses(torch.full((4,), 2))


def test_a_step_is_the_loss_of_both_sides() -> None:
    """The whole term with the very negatives that it drew, from the networks' own embeddings."""
    task = crd(weight=2.0, temperature=0.3).double().eval()
    (given,) = (batch._replace(images=batch.images.double()) for batch in batches(SHAPE, 12).epoch(0))
    task.prepare(batches(SHAPE, 12), seed=3)
    contrast = contrast_of(task).double()
    before = [bank.entries.tolist() for bank in (contrast.student_memory, contrast.teacher_memory)]
    torch.manual_seed(5)
    negatives = contrast.others.sample(given.labels, 16)
    torch.manual_seed(5)
    found = task(given)["crd"]
    candidates = torch.cat([given.indices.unsqueeze(1), negatives], dim=1).tolist()
    embedded = {}
    for name, whole in (("student", task.network), ("teacher", task.teacher_ensemble.teachers[0].network)):
        maps = whole.stem(given.images)  # type: ignore[operator, union-attr]
        for group in whole.groups:  # type: ignore[union-attr]
            maps = group(maps)
        pooled = whole.norm(maps).relu().mean(dim=(2, 3))  # type: ignore[operator, union-attr]
        linear = contrast.get_submodule(f"{name}_embedding")
        embedded[name] = nn.functional.normalize(linear(pooled), dim=1).tolist()
    expected = looped(embedded["student"], before[1], candidates, 0.3)
    expected += looped(embedded["teacher"], before[0], candidates, 0.3)
    assert float(found.detach()) == pytest.approx(2 * expected, rel=1e-6)
    moved = torch.tensor(before[1], dtype=torch.float64) + torch.tensor(embedded["teacher"], dtype=torch.float64)
    torch.testing.assert_close(contrast.teacher_memory.entries, nn.functional.normalize(moved, dim=1))


def test_half_precision_is_computed_in_single() -> None:
    task = crd()
    task.prepare(batches(SHAPE), seed=0)
    (given, _) = batches(SHAPE).epoch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert task(given)["crd"].dtype == torch.float32


def test_preparation_follows_its_seed_and_draws_nothing_from_the_global_generator() -> None:
    learned = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(learned))  # what this process drew before
        task = crd()
        random = torch.get_rng_state()
        task.prepare(batches(SHAPE), seed)
        assert torch.equal(torch.get_rng_state(), random)
        learned.append(contrast_of(task).state_dict())
    for name, value in learned[0].items():
        assert torch.equal(value, learned[1][name])
    for name in ("student_embedding.weight", "teacher_embedding.weight", "student_memory.entries"):
        assert not torch.equal(learned[0][name], learned[2][name])
    assert not torch.equal(learned[0]["student_memory.entries"], learned[0]["teacher_memory.entries"])


def test_training_goes_on_from_a_checkpoint_with_the_same_bits() -> None:
    given = batches(SHAPE)
    steps = list(given.epoch(0)) * 3

    unbroken = crd()
    unbroken.prepare(given, seed=0)
    torch.manual_seed(7)
    optimizer = optimizer_of(unbroken)
    train(unbroken, steps[:3], optimizer, "crd")
    saved, saved_optimizer = copy.deepcopy((unbroken.state_dict(), optimizer.state_dict()))
    random = torch.get_rng_state()
    resumed = crd()
    resumed.prepare(given, seed=0)
    resumed.load_state_dict(saved)
    other = optimizer_of(resumed)
    other.load_state_dict(saved_optimizer)
    torch.set_rng_state(random)
    expected = train(unbroken, steps[3:], optimizer, "crd")
    torch.set_rng_state(random)
    assert train(resumed, steps[3:], other, "crd") == expected
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_a_checkpoint_holds_memories_and_constants_but_no_labels() -> None:
    task = crd()
    task.prepare(batches(SHAPE), seed=0)
    held = {name.removeprefix("learned.crd.") for name in task.state_dict() if name.startswith("learned.crd.")}
    assert held == {
        f"{side}_{what}"
        for side in ("student", "teacher")
        for what in (
            *("embedding.weight", "embedding.bias"),
            *("memory.entries", "memory.log_constant", "memory.estimated"),
        )
    }


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(UserError, match="2 processes would each do for other images; train with one"):
        crd().prepare(batches(SHAPE), seed=0)


def test_the_student_and_both_embeddings_learn_and_the_teacher_does_not() -> None:
    task = crd()
    before = {name: value.clone() for name, value in task.teacher_ensemble.teachers[0].network.state_dict().items()}
    first, last = train_briefly(task, SHAPE, "crd")
    assert last < 0.9 * first
    assert all(parameter.grad is not None for parameter in contrast_of(task).parameters())
    assert task.network.stem.weight.grad is not None  # type: ignore[union-attr]
    for name, value in task.teacher_ensemble.teachers[0].network.state_dict().items():
        assert torch.equal(value, before[name])


def test_maps_are_flattened_where_a_pair_names_them() -> None:
    task = crd(pair=["groups.1", "groups.2"])
    assert contrast_of(task).student_embedding.in_features == 32 * 4 * 4
    assert contrast_of(task).teacher_embedding.in_features == 128 * 2 * 2
