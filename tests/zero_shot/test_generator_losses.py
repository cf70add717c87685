"""What generators minimise, against numpy, hooks on the plain networks, and closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Shape
from nasdistill.distill.objectives import Outputs
from nasdistill.distill.teacher import FrozenTeacher, Teacher
from nasdistill.errors import UserError
from nasdistill.registry import registry
from nasdistill.zero_shot.generation import Generation
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES, Pseudo, Remembering
from nasdistill.zero_shot.generator_losses.contrastive import Discrimination, discrimination
from nasdistill.zero_shot.generators import GENERATORS
from tests.distill.losses import DOUBLE, logits

SHAPE: Shape = (3, 8, 8)
CLASSES = 10
TARGETS = torch.tensor([3, 1, 4, 1, 5, 9])


def images(count: int = 6, seed: int = 0, shape: Shape = SHAPE) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def pseudo(teacher: torch.Tensor, student: torch.Tensor | None = None, made: torch.Tensor | None = None) -> Pseudo:
    return Pseudo(images() if made is None else made, TARGETS, student, Outputs(teacher, {}))


def loss_of(spec: object, given: Pseudo) -> torch.Tensor:
    """The unweighted loss of a term that reads no features."""
    loss: torch.Tensor = GENERATOR_LOSSES.parse(spec).loss(given)
    return loss


def network(model: str, shape: Shape = SHAPE) -> nn.Module:
    """A network whose batch norms have seen a few images."""
    torch.manual_seed(1)
    built: nn.Module = registry("models").parse(model).build(shape, CLASSES)
    built.train()
    with torch.no_grad():
        for number in range(3):
            built(0.5 + 2 * images(16, seed=number, shape=shape))
    return built.eval()


def features_loss(spec: object, teacher: nn.Module, made: torch.Tensor, shape: Shape = SHAPE) -> torch.Tensor:
    """The unweighted loss of a term that reads features, of the teacher as it judges: frozen, its norms folded."""
    term = GENERATOR_LOSSES.parse(spec).bind(teacher, shape)
    said = FrozenTeacher(Teacher(teacher), shape, term.teacher_points, None)(made)
    return term.loss(Pseudo(made, TARGETS, None, said))


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("one-hot", 1),
        ("activation", 0.1),
        ("information-entropy", 5),
        ("adversarial", 1),
        ("class-prior", 1),
        ("batch-norm", 10),
        ("total-variation", 2.5e-5),
        ("contrastive", 0.8),
    ],
)
def test_published_weights_are_the_defaults(name: str, weight: float) -> None:
    assert GENERATOR_LOSSES.parse(name).weight == weight


def test_cross_entropies_with_the_teachers_own_class_and_with_one_that_was_asked_for() -> None:
    teacher = logits(1)
    rows = log_softmax(teacher.numpy(), axis=1)
    assert loss_of("one-hot", pseudo(teacher)).item() == pytest.approx(-rows.max(axis=1).mean())
    expected = -np.mean([row[target] for row, target in zip(rows, TARGETS.tolist(), strict=True)])
    assert loss_of("class-prior", pseudo(teacher)).item() == pytest.approx(expected)


def test_information_entropy() -> None:
    teacher = logits(1)
    mean = softmax(teacher.numpy(), axis=1).mean(axis=0)
    assert loss_of("information-entropy", pseudo(teacher)).item() == pytest.approx(-entropy(mean, base=10))
    even = 50 * torch.eye(CLASSES, dtype=DOUBLE)
    assert loss_of("information-entropy", pseudo(even)).item() == pytest.approx(-1), "each class once: -log10(10)"
    one_class = even[:1].expand(6, CLASSES)
    assert loss_of("information-entropy", pseudo(one_class)).item() == pytest.approx(0, abs=1e-12)


def test_the_gradient_of_the_entropy_is_finite_where_probabilities_are_0() -> None:
    """In single precision exp(-1000) is 0, whose logarithm is not finite."""
    teacher = torch.zeros(4, 3)
    teacher[:, 0] = 1000
    teacher.requires_grad_()
    loss_of("information-entropy", pseudo(teacher)).backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is not None
    assert teacher.grad.isfinite().all()


def test_the_adversary_of_dfad() -> None:
    student, teacher = logits(0), logits(1)
    distance = np.abs(student.numpy() - teacher.numpy()).mean()
    spec = {"name": "adversarial", "divergence": "l1"}
    assert loss_of(spec, pseudo(teacher, student)).item() == pytest.approx(-distance)
    with_logarithm = loss_of({**spec, "logarithm": True}, pseudo(teacher, student)).item()
    assert with_logarithm == pytest.approx(-math.log(1 + distance))


def test_the_adversary_of_images_that_are_agreed_on() -> None:
    """Others count nothing, and get no gradient, in a mean over all."""
    teacher = logits(1)
    student = torch.where(torch.arange(len(teacher))[:, None] < 2, teacher + 0.1 * logits(0), logits(0))
    agreed = (student.argmax(1) == teacher.argmax(1)).numpy()
    assert 0 < agreed.sum() < len(agreed)
    theirs, ours = (log_softmax(each.numpy(), axis=1) for each in (teacher, student))
    expected = -(np.exp(theirs) * (theirs - ours)).sum(axis=1) @ agreed / len(agreed)
    student.requires_grad_()
    spec = {"name": "adversarial", "agreed": True, "divergence": {"name": "kl", "reduction": "batchmean"}}
    found = loss_of(spec, pseudo(teacher, student))
    assert found.item() == pytest.approx(expected)
    found.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert (student.grad.abs().sum(1).numpy() > 0).tolist() == agreed.tolist()


def test_total_variation_pixel_by_pixel() -> None:
    made = images(2, shape=(2, 4, 5)).double()
    sums = np.zeros(4)
    for place in np.ndindex(2, 2, 4, 5):
        image, channel, row, column = place
        for number, (down, right) in enumerate(((0, 1), (1, 0), (1, 1), (1, -1))):
            if row + down < 4 and 0 <= column + right < 5:
                other = made[image, channel, row + down, column + right]
                sums[number] += float(other - made[place]) ** 2
    found = loss_of("total-variation", pseudo(logits(1), made=made))
    assert found.item() == pytest.approx(np.sqrt(sums).sum())


def test_total_variation_of_a_waveform_is_along_time_alone() -> None:
    made = images(2, shape=(1, 1, 9)).double()
    found = loss_of("total-variation", pseudo(logits(1), made=made))
    assert found.item() == pytest.approx(np.linalg.norm(np.diff(made.numpy(), axis=3)))


def test_l2_is_the_length_of_an_image() -> None:
    made = images()
    expected = np.linalg.norm(made.flatten(1).numpy(), axis=1).mean()
    assert loss_of("l2", pseudo(logits(1), made=made)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("model", ["wrn-10-1", "mlp-8"])
def test_activations_in_front_of_the_classifier(model: str) -> None:
    teacher, made = network(model), images()
    found: list[torch.Tensor] = []
    classifier = [module for module in teacher.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad(), classifier.register_forward_pre_hook(lambda _module, read: found.append(read[0])):
        teacher(made)
    expected = -float(found[0].abs().mean())
    assert expected < -0.01
    assert float(features_loss("activation", teacher, made)) == pytest.approx(expected, rel=1e-5)


def test_activations_anywhere_else() -> None:
    teacher, made = network("wrn-10-1"), images()
    with torch.no_grad():
        expected = -float(teacher.get_submodule("stem")(made).abs().mean())
    found = features_loss({"name": "activation", "point": "stem"}, teacher, made)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def by_hooks(teacher: nn.Module, made: torch.Tensor) -> list[float]:
    """Each layer's part of the loss, by numpy, from what the plain network's batch norms read."""
    parts: list[float] = []

    def add(norm: nn.Module, read: tuple[torch.Tensor, ...]) -> None:
        values = np.moveaxis(read[0].double().numpy(), 1, 0).reshape(read[0].shape[1], -1)
        means = values.mean(axis=1) - norm.running_mean.numpy()  # type: ignore[operator, union-attr]
        variances = values.var(axis=1) - norm.running_var.numpy()  # type: ignore[operator, union-attr]
        parts.append(float(np.sqrt((means**2).sum()) + np.sqrt((variances**2).sum())))

    norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(add) for norm in norms]
    with torch.no_grad():
        teacher(made)
    for handle in handles:
        handle.remove()
    return parts


@pytest.mark.parametrize("model", ["wrn-10-1", "resnet-8", "densenet-16-4", "torchvision:mobilenet_v2"])
def test_batch_norm_statistics_are_those_of_the_network_before_it_is_folded(model: str) -> None:
    shape: Shape = (3, 32, 32) if model.startswith("torchvision") else SHAPE
    teacher, made = network(model, shape), images(shape=shape)
    parts = by_hooks(teacher, made)
    assert len(parts) > 5
    assert float(features_loss("batch-norm", teacher, made, shape)) == pytest.approx(sum(parts), rel=1e-4)
    weighed = features_loss({"name": "batch-norm", "first": 10}, teacher, made, shape)
    assert float(weighed) == pytest.approx(sum(parts) + 9 * parts[0], rel=1e-4)


def test_batch_norm_loss_is_0_for_images_with_the_very_statistics() -> None:
    """A norm of weight 1 for the images, another of what a convolution by -2 makes of them; by hand where they move."""
    made = images(64, shape=(1, 4, 4)).double()
    first, second = nn.BatchNorm2d(1, eps=0), nn.BatchNorm2d(1)
    convolution = nn.Conv2d(1, 1, 1, bias=False)
    teacher = nn.Sequential(first, convolution, second, nn.Flatten(), nn.Linear(16, CLASSES)).double().eval()
    mean, variance = made.mean(), made.var(correction=0)
    with torch.no_grad():
        for norm, expected in ((first, (mean, variance)), (second, (torch.zeros(1), 4 * torch.ones(1)))):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(expected[0])
            norm.running_var.copy_(expected[1])
        convolution.weight.fill_(-2)
    shape = (1, 4, 4)
    assert float(features_loss("batch-norm", teacher, made, shape)) == pytest.approx(0, abs=1e-12)
    # Shifted by 3: means 3 and -2 * 3 / deviation away, variances where they were.
    shifted = 3 + 6 / variance.sqrt()
    assert float(features_loss("batch-norm", teacher, made + 3, shape)) == pytest.approx(float(shifted))


def test_statistics_with_momentum_are_those_of_a_running_mean() -> None:
    """Of one norm that reads the images, against numpy: the first pseudo-batch alone, then 0.9 of those before."""
    norm = nn.BatchNorm2d(1)
    teacher = nn.Sequential(norm, nn.Flatten(), nn.Linear(16, CLASSES)).eval()
    shape: Shape = (1, 4, 4)
    spec = {"name": "batch-norm", "momentum": 0.9}
    term = GENERATOR_LOSSES.parse(spec).bind(teacher, shape)
    frozen = FrozenTeacher(Teacher(teacher), shape, term.teacher_points, None)
    running = np.zeros(0)
    for number in range(3):
        for step in range(2):  # what is remembered is of the last
            made = (number + 2) * images(5, seed=10 * number + step, shape=shape) + step
            own = np.array([made.double().mean(), made.double().var(correction=0)])
            blended = 0.1 * own + 0.9 * running if number else own
            found = term.loss(Pseudo(made, TARGETS, None, frozen(made)))
            assert found.item() == pytest.approx(abs(blended[0]) + abs(blended[1] - 1), rel=1e-5)
        assert isinstance(term.loss, Remembering)
        term.loss.remember()
        running = blended


def test_parts_are_told_from_all_wholes() -> None:
    """Of two images of this pseudo-batch and three of earlier ones, and of the two alone."""
    rng = np.random.default_rng(0)
    parts, wholes = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in rng.normal(size=(2, 5, 4)))
    lost = -np.diag(log_softmax(parts @ wholes.T / 0.1, axis=1))
    found = discrimination(torch.tensor(parts), torch.tensor(wholes), 2, 0.1)
    assert found.item() == pytest.approx(lost[:2].mean() + lost[2:].mean())
    alone = discrimination(torch.tensor(parts[:2]), torch.tensor(wholes[:2]), 2, 0.1)
    assert alone.item() == pytest.approx(-np.diag(log_softmax(parts[:2] @ wholes[:2].T / 0.1, axis=1)).mean())


def test_what_is_contrasted_are_means_over_space_in_front_of_batch_norms() -> None:
    """Of the images and of their crops, in this pseudo-batch and in those before; the oldest are forgotten."""
    teacher = network("wrn-10-1")
    term = GENERATOR_LOSSES.parse({"name": "contrastive", "memory": 9, "embedding": 5}).bind(teacher, SHAPE)
    frozen = FrozenTeacher(Teacher(teacher), SHAPE, term.teacher_points, None)
    asked: list[torch.Tensor] = []
    loss = term.loss
    assert isinstance(loss, Discrimination)

    def ask(given: torch.Tensor) -> Outputs:
        asked.append(given)
        return frozen(given)

    def means(given: torch.Tensor) -> torch.Tensor:
        """By hooks on the plain network."""
        found: list[torch.Tensor] = []
        norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
        handles = [norm.register_forward_pre_hook(lambda _, read: found.append(read[0].mean((2, 3)))) for norm in norms]
        teacher(given)
        for handle in handles:
            handle.remove()
        return torch.cat(found, dim=1)

    known: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.no_grad():
        for number in range(3):
            made = images(seed=20 + number)
            found = loss(Pseudo(made, TARGETS, None, frozen(made), ask))
            assert not torch.equal(asked[-1], made)
            parts, wholes = means(asked[-1]), means(made)
            earlier = [torch.cat(each)[:9] for each in zip(*reversed(known), strict=True)] if known else [parts[:0]] * 2
            embedded = [
                functional.normalize(loss.head(torch.cat(each)), dim=1)
                for each in ((parts, earlier[0]), (wholes, earlier[1]))
            ]
            expected = discrimination(*embedded, 6, 0.1)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
            loss.remember()
            known.append((parts, wholes))


def test_the_perceptron_learns_and_wholes_are_targets_alone() -> None:
    """A gradient reaches each image through its part and through nothing else."""
    torch.manual_seed(0)
    term = GENERATOR_LOSSES.parse({"name": "contrastive", "memory": 9}).bind(network("wrn-10-1"), SHAPE)
    loss = term.loss
    assert isinstance(loss, Discrimination)
    features = {point: torch.randn(6, 16, 2, 2).requires_grad_() for point in term.teacher_points}
    part = {point: torch.randn(6, 16, 2, 2).requires_grad_() for point in term.teacher_points}
    widths = [layer.weight.shape[1] for layer in loss.head if isinstance(layer, nn.Linear)]
    loss.head[0] = nn.Linear(16 * len(features), widths[0])
    loss.earlier = torch.zeros(2, 9, 16 * len(features))
    outputs = Outputs(torch.empty(6, CLASSES), features)
    loss(Pseudo(images(), TARGETS, None, outputs, lambda _: Outputs(outputs.logits, part))).backward()
    assert all(each.grad is not None for each in part.values())
    assert all(each.grad is None for each in features.values())
    assert all(parameter.grad is not None for parameter in loss.head.parameters())


def test_embeddings_in_half_precision_are_contrasted_in_single() -> None:
    """Cosines over a temperature of 0.1 are up to 10, where bfloat16 has steps of 1/16."""
    drawn = torch.Generator().manual_seed(0)
    parts, wholes = (torch.randn(8, 6, generator=drawn) for _ in range(2))
    loss = Discrimination(("point",), features=6, embedding=5, memory=9, temperature=0.1)
    whole, part = (Outputs(torch.empty(0), {"point": features}) for features in (wholes, parts))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(Pseudo(torch.zeros(8, *SHAPE), torch.empty(0), None, whole, lambda _images: part))
        embeddings = [loss.head(features).float() for features in (parts, wholes)]
    expected = discrimination(*(functional.normalize(each, dim=1) for each in embeddings), 8, 0.1)
    assert torch.equal(found, expected)


def test_vectors_have_batch_norms_too() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(5)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), norm, nn.Linear(5, CLASSES)).eval()
    made = images()
    assert float(features_loss("batch-norm", teacher, made)) == pytest.approx(by_hooks(teacher, made)[0], rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "problem"),
    [
        ("batch-norm", "batch-norm: the teacher has no batch norm, which would remember the statistics"),
        ("contrastive", r"contrastive: the teacher has no batch norm, in front of which.*`points: \[MODULE\]`"),
        ({"name": "contrastive", "points": ["conf"]}, "no module 'conf'; did you mean 'conv'"),
        ("activation", "activation: the teacher has no linear layer.*`point: MODULE`"),
        ({"name": "activation", "point": "conf"}, "no module 'conf'; did you mean 'conv'"),
    ],
)
def test_teachers_that_do_not_fit(loss: object, problem: str) -> None:
    class Convolutional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, CLASSES, 7)
            self.norm = nn.BatchNorm2d(CLASSES, track_running_stats=False)

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.norm(self.conv(given)).mean(dim=(2, 3))
            return made

    with pytest.raises(UserError, match=problem):
        generation([loss], Convolutional())


def generation(losses: list[Any], *teachers: nn.Module, weights: tuple[float, ...] = (1, 1)) -> Generation:
    torch.manual_seed(0)
    student: nn.Module = registry("models").parse("wrn-10-1").build(SHAPE, CLASSES)
    listed = [Teacher(teacher, weight=weight) for teacher, weight in zip(teachers, weights, strict=False)]
    terms = [GENERATOR_LOSSES.parse(loss) for loss in losses]
    return Generation(GENERATORS.parse("pixels"), 6, student, listed, terms, SHAPE, CLASSES)


EVERY = GENERATOR_LOSSES.names()


@pytest.mark.parametrize("name", EVERY)
def test_gradients_reach_the_images(name: str) -> None:
    made = generation([name], network("wrn-10-1"))
    latents, targets = made.sample(0, 0)
    named = made(latents, targets)
    assert list(named) == [name]
    named[name].backward()
    gradient = made.get_parameter("generator.offset").grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all(), "of every image"


def test_weights_multiply_and_losses_stand_side_by_side() -> None:
    teacher = network("wrn-10-1")
    latents, targets = generation(["l2"], teacher).sample(0, 0)
    with torch.no_grad():
        weighed = generation([{"name": name, "weight": 2} for name in EVERY], teacher)(latents, targets)
        plain = [generation([{"name": name, "weight": 1}], teacher)(latents, targets)[name] for name in EVERY]
    assert list(weighed) == EVERY
    torch.testing.assert_close(list(weighed.values()), [2 * value for value in plain], rtol=1e-4, atol=1e-5)


def test_several_teachers_share_what_reads_their_features() -> None:
    """Each with its own statistics; a teacher of three times the weight counts three times as much."""
    teachers = [network("wrn-10-1"), network("resnet-8")]
    latents, targets = generation(["l2"], teachers[0]).sample(0, 0)
    with torch.no_grad():
        both = generation(["batch-norm"], *teachers, weights=(3, 1))(latents, targets)["batch-norm"]
        alone = [generation(["batch-norm"], teacher)(latents, targets)["batch-norm"] for teacher in teachers]
    torch.testing.assert_close(both, 0.75 * alone[0] + 0.25 * alone[1])


def test_statistics_move_with_the_generator_and_are_in_no_checkpoint() -> None:
    made = generation(["batch-norm"], network("wrn-10-1"))
    assert list(made.state_dict()) == ["generator.offset"]
    moved = made.to("meta")
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}
    assert len(list(moved.buffers())) == 2 * 7, "mean and variance of the 7 batch norms of three blocks"
