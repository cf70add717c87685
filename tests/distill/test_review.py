"""Knowledge review by plain loops: the loss at several sizes, the fusion of maps, and what is trained and kept."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.distill.objectives.review import Fusion, KnowledgeReview, hierarchical_context_loss
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import UserError
from tests.distill.features import batches, network, optimizer_of, train, train_briefly
from tests.distill.losses import DOUBLE

SHAPE = (3, 8, 8)


def maps(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def pooled(values: np.ndarray, side: int) -> np.ndarray:
    """Means over the cells of a grid of side x side, for sides that divide the map's."""
    images, channels, height, width = values.shape
    return values.reshape(images, channels, side, height // side, side, width // side).mean((3, 5))


def review(**options: object) -> Distillation:
    student, teacher = network("wrn-10-1", SHAPE), network("wrn-10-2", SHAPE, 1)
    return Distillation(student, [Teacher(teacher)], [OBJECTIVES.parse({"name": "review", **options})], SHAPE)


def learned(task: Distillation) -> KnowledgeReview:
    loss = task.learned["review"]
    assert isinstance(loss, KnowledgeReview)
    return loss


@pytest.mark.parametrize(("side", "levels"), [(8, (4, 2, 1)), (4, (2, 1)), (2, (1,)), (1, ())])
def test_the_loss_is_that_of_all_smaller_sizes_with_halved_weights(side: int, levels: tuple[int, ...]) -> None:
    ours, theirs = maps(2, 3, side, side), maps(2, 3, side, side, seed=1)
    weights = [1 / 2**number for number in range(len(levels) + 1)]
    expected = [np.mean((ours.numpy() - theirs.numpy()) ** 2)]
    expected += [np.mean((pooled(ours.numpy(), n) - pooled(theirs.numpy(), n)) ** 2) for n in levels]
    total = sum(weight * loss for weight, loss in zip(weights, expected, strict=True)) / sum(weights)
    assert hierarchical_context_loss(ours, theirs).item() == pytest.approx(total)


def test_half_precision_is_computed_in_single() -> None:
    ours, theirs = torch.full((1, 1, 8, 8), 1.0).bfloat16(), torch.full((1, 1, 8, 8), 1 + 2**-7).bfloat16()
    found = hierarchical_context_loss(ours, theirs)
    assert found.dtype == torch.float32
    assert found.item() == 2.0**-14


def test_a_fusion_weighs_its_own_map_and_the_deeper_one_at_each_place() -> None:
    """Written out place by place, from a 2x2 map and a deeper single pixel to a teacher's map of 4x4."""
    torch.manual_seed(0)
    fusion = Fusion(student=3, middle=2, teacher=5, fuse=True).double()
    given, deeper = maps(4, 3, 2, 2), maps(4, 2, 1, 1, seed=1)
    made, handed_on = fusion(given, deeper, torch.Size((4, 4)))
    assert fusion.attention is not None
    weight, bias = (value.detach().numpy() for value in (fusion.attention.weight[:, :, 0, 0], fusion.attention.bias))
    reduced = np.einsum("nchw,dc->ndhw", given.numpy(), fusion.reduce[0].weight.detach().numpy()[:, :, 0, 0])
    axes = (0, 2, 3)
    normed = (reduced - reduced.mean(axes, keepdims=True)) / np.sqrt(reduced.var(axes, keepdims=True) + 1e-5)
    for image in range(4):
        for row in range(4):
            for column in range(4):
                own, below = normed[image, :, row // 2, column // 2], deeper.numpy()[image, :, 0, 0]
                shares = 1 / (1 + np.exp(-(weight @ np.concatenate([own, below]) + bias)))
                expected = shares[0] * own + shares[1] * below
                np.testing.assert_allclose(handed_on[image, :, row, column].detach().numpy(), expected)
    torch.testing.assert_close(made, fusion.expand(handed_on))
    assert made.shape == (4, 5, 4, 4)


def test_a_step_goes_from_the_deepest_pair_to_the_first() -> None:
    task = review(weight=2.0).double()
    (given,) = (batch._replace(images=batch.images.double()) for batch in batches(SHAPE, 12).epoch(0))
    found = task(given)["review"].item()
    features = []
    for whole in (task.network, task.teacher_ensemble.teachers[0].network):
        outputs = [whole.stem(given.images)]  # type: ignore[operator, union-attr]
        for group in whole.groups:  # type: ignore[union-attr]
            outputs.append(group(outputs[-1]))
        features.append([*outputs[1:], whole.norm(outputs[-1]).relu().mean((2, 3), keepdim=True)])  # type: ignore[operator, union-attr]
    fusions = learned(task).fusions
    assert len(fusions) == 4
    assert fusions[0].reduce[0].out_channels == 64  # type: ignore[index, union-attr]  # of the student's embedding
    total, deeper = 0.0, None
    for place in (3, 2, 1, 0):
        ours, theirs = features[0][place], features[1][place]
        made, deeper = fusions[place](ours, deeper, theirs.shape[2:])
        total += hierarchical_context_loss(made, theirs).item()
    assert found == pytest.approx(2 * total)


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    fusion = Fusion(student=2, middle=2, teacher=3, fuse=True).double().eval()
    theirs = maps(2, 3, 4, 4, seed=2)

    def loss(ours: torch.Tensor, deeper: torch.Tensor) -> torch.Tensor:
        return hierarchical_context_loss(fusion(ours, deeper, theirs.shape[2:])[0], theirs)

    given = maps(2, 2, 2, 2).requires_grad_(), maps(2, 2, 1, 1, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss, given)


def test_the_student_and_the_modules_learn_and_the_seed_alone_draws_them() -> None:
    task = review()
    first, last = train_briefly(task, SHAPE, "review")
    assert last < 0.8 * first
    assert all(parameter.grad is not None for parameter in task.learned.parameters())
    assert "fusion" not in " ".join(task.network.state_dict())
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(drawn))
        other = review()
        other.prepare(batches(SHAPE), seed)
        drawn.append(torch.cat([parameter.detach().flatten() for parameter in other.learned.parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_training_goes_on_from_a_checkpoint_with_the_same_bits() -> None:
    steps = list(batches(SHAPE).epoch(0)) * 2
    unbroken, resumed = review(), review()
    optimizer = optimizer_of(unbroken)
    train(unbroken, steps[:2], optimizer, "review")
    resumed.load_state_dict(copy.deepcopy(unbroken.state_dict()))
    other = optimizer_of(resumed)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert train(resumed, steps[2:], other, "review") == train(unbroken, steps[2:], optimizer, "review")


def test_networks_without_layers_to_pair_are_refused_with_a_way_out() -> None:
    mlps = network("mlp-8-8", SHAPE), network("mlp-16-16", SHAPE)
    with pytest.raises(UserError, match="the student has no feature points of its own; give the pairs of points"):
        OBJECTIVES.parse("review").bind(*mlps, SHAPE)
    spec = {"name": "review", "pairs": [["hidden.0", "hidden.0"], ["hidden.1", "hidden.1"]]}
    task = Distillation(mlps[0], [Teacher(mlps[1])], [OBJECTIVES.parse(spec)], SHAPE)
    assert task(next(iter(batches(SHAPE).epoch(0))))["review"].item() > 0


def test_layers_that_are_neither_maps_nor_vectors_are_refused() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Flatten(2)
            self.classifier = nn.Linear(64, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.classifier(self.tokens(images).mean(1))
            return logits

    spec = {"name": "review", "pairs": [["tokens", "tokens"]]}
    with pytest.raises(UserError, match=r"but the student's module 'tokens' puts out \[3, 64\] per image"):
        OBJECTIVES.parse(spec).bind(Tokens(), Tokens(), SHAPE)
