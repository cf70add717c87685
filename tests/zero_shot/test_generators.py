"""The generators of images: their layers, their sizes, what they make at the start, and that a kill changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from nasdistill import interrupts
from nasdistill.data.base import Normalisation, Shape
from nasdistill.distill.teacher import Teacher
from nasdistill.errors import Interrupted, SpecError, UserError
from nasdistill.zero_shot.generation import Generation
from nasdistill.zero_shot.generator_losses import GENERATOR_LOSSES
from nasdistill.zero_shot.generators import GENERATORS
from tests.together import torchrun
from tests.zero_shot.parts import GENERATOR, SEED, SHAPE, Loop, loop, network
from tests.zero_shot.pixels_apart import pixels_loop

CIFAR: Shape = (3, 32, 32)


def built(shape: Shape, images: int = 4, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = GENERATORS.parse({"name": "convolutional", **options}).build(shape, images, classes=3)
    return made


def made_by(generator: nn.Module, count: int = 4, latents: int = 100) -> torch.Tensor:
    images: torch.Tensor = generator(torch.randn(count, latents, generator=torch.Generator().manual_seed(1)))
    return images


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_number_of_parameters() -> None:
    assert parameters(built(CIFAR)) == 1_051_145
    assert parameters(built(CIFAR, last_affine=False)) == 1_051_145 - 6
    assert parameters(built(CIFAR, spectral_norm=True)) == 1_051_145


@pytest.mark.parametrize(
    ("shape", "first"), [((1, 28, 28), 7 * 7), ((1, 8, 8), 2 * 2), (CIFAR, 8 * 8), ((3, 33, 47), 9 * 12)]
)
def test_images_of_any_shape(shape: Shape, first: int) -> None:
    generator = built(shape)
    assert made_by(generator).shape == (4, *shape)
    linear = 101 * 128 * first + 256
    convolutions = (128 * 9 + 1) * 128 + 256 + (128 * 9 + 1) * 64 + 128
    assert parameters(generator) == linear + convolutions + (64 * 9 + 1 + 2) * shape[0]


@pytest.mark.parametrize("tanh", [False, True])
def test_the_layers_are_the_published_ones(tanh: bool) -> None:
    """The same weights in a sequence of torch's modules, in the order in which the paper's code has them."""
    generator = built(CIFAR, tanh=tanh)
    sequence = nn.Sequential(
        nn.Linear(100, 128 * 8 * 8),
        nn.Unflatten(1, (128, 8, 8)),
        nn.BatchNorm2d(128),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 128, 3, 1, 1),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 64, 3, 1, 1),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 3, 3, 1, 1),
        nn.Tanh() if tanh else nn.Identity(),
        nn.BatchNorm2d(3),
    )
    ours, theirs = generator.state_dict(), sequence.state_dict()
    assert [value.shape for value in ours.values()] == [value.shape for value in theirs.values()]
    sequence.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    torch.testing.assert_close(made_by(generator), made_by(sequence))


@pytest.mark.parametrize("options", [{}, {"last_affine": False}, {"tanh": True}, {"spectral_norm": True}], ids=str)
def test_images_start_in_normalised_space(options: dict[str, Any]) -> None:
    """Each channel has mean 0 and deviation 1 over the batch, as the teacher's images have over the data."""
    images = made_by(built(CIFAR, **options), count=64)
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(images.std(dim=(0, 2, 3)), torch.ones(3), rtol=0, atol=1e-2)


@pytest.mark.parametrize("tanh", [False, True])
def test_only_tanh_bounds_what_is_made(tanh: bool) -> None:
    """Far from 0 tanh leaves little but signs; without it the shape of the distribution stays what it was."""
    generator = built(CIFAR, tanh=tanh)
    before = made_by(generator, 64).abs().max()
    with torch.no_grad():
        generator.get_parameter("11.weight").mul_(1000)
        generator.get_parameter("11.bias").zero_()
    after = made_by(generator, 64).abs().max()
    if tanh:
        assert after < 2 < 3 < before
    else:
        torch.testing.assert_close(after, before, rtol=0.05, atol=0)


def largest_singular_values(generator: nn.Module) -> dict[str, float]:
    """Of the weights that are used, as matrices of outputs x everything else."""
    layers = {path: module for path, module in generator.named_modules() if hasattr(module, "parametrizations")}
    generator.eval()  # otherwise a look at a weight is a step of its power iteration
    values = {
        path: float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2))  # type: ignore[operator, union-attr]
        for path, layer in layers.items()
    }
    generator.train()
    return values


def test_spectral_normalisation_divides_by_the_largest_singular_value() -> None:
    generator = built(SHAPE, channels=8, spectral_norm=True)
    with torch.no_grad():
        for _ in range(300):
            made_by(generator)
    values = largest_singular_values(generator)
    assert list(values) == ["0", "4", "8", "11"], "the linear layer and the convolutions"
    assert list(values.values()) == pytest.approx([1] * 4, abs=1e-3)
    plain = built(SHAPE, channels=8)
    with torch.no_grad():
        assert float(torch.linalg.matrix_norm(plain.get_parameter("4.weight").flatten(1), 2)) < 0.9


def spectral_loop(**settings: Any) -> Loop:
    generator = {**GENERATOR, "spectral_norm": True}
    return loop(network(1), network(2), generator=generator, **settings)


def test_a_generator_with_spectral_normalisation_trains_and_keeps_it(tmp_path: Path) -> None:
    made = spectral_loop(pseudo_batches=10, generator_steps=5, student_steps=1)
    before = {name: value.detach().clone() for name, value in made.generation.generator.named_parameters()}
    made.run(tmp_path)
    moved = {
        name: float((value.detach() - before[name]).abs().max())
        for name, value in made.generation.generator.named_parameters()
    }
    assert all(distance > 1e-3 for name, distance in moved.items() if name.endswith("original"))
    assert list(largest_singular_values(made.generation.generator).values()) == pytest.approx([1] * 4, abs=0.05)


def test_a_single_channel_is_refused_because_the_third_map_has_half_as_many() -> None:
    with pytest.raises(SpecError, match="greater than 1") as error:
        built(CIFAR, channels=1)
    assert error.value.path == ("channels",)
    assert made_by(built((1, 8, 8), channels=2)).shape == (4, 1, 8, 8)


@pytest.mark.parametrize("options", [{}, {"spectral_norm": True}], ids=str)
def test_starting_over_draws_every_weight_by_its_place(options: dict[str, Any]) -> None:
    def generator() -> Generation:
        return loop(network(1), network(2), generator={**GENERATOR, **options}).generation

    one, other = generator(), generator()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    torch.randn(7)  # what was drawn before must not matter
    one.start_over(SEED, 3)
    other.start_over(SEED, 3)
    after = one.state_dict()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in after.items())
    layers = tuple(f"generator.{place}." for place in (0, 4, 8, 11))
    drawn = [name for name in after if name.startswith(layers) and name.endswith(("weight", "bias", "original"))]
    assert len(drawn) == 8, "weight and bias of the linear layer and of three convolutions"
    assert all(not torch.equal(after[name], before[name]) for name in drawn)
    expected = torch.randn(3, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(5)
    other.start_over(SEED, 4)
    assert torch.equal(torch.randn(3), expected), "the draws of others go on as if nothing had been drawn"
    assert all(not torch.equal(after[name], other.state_dict()[name]) for name in drawn)


KNOWN = Normalisation(mean=(0.4,), std=(0.25,))


def test_a_sigmoid_ends_in_pixels_which_are_normalised(tmp_path: Path) -> None:
    """Black is -0.4 / 0.25, white 0.6 / 0.25, and the last convolution has the values in between."""
    generator = {**GENERATOR, "sigmoid": True}
    made = loop(network(1), network(2), generator=generator, normalisation=KNOWN).generation
    assert isinstance(made.generator[-1], nn.Sigmoid)  # type: ignore[index]
    latents, targets = made.sample(SEED)
    with torch.no_grad():
        convolved = nn.Sequential(*list(made.generator.children())[:-1])(latents)
        images = made.images(latents, targets)
    expected = (1 / (1 + np.exp(-convolved.double().numpy())) - 0.4) / 0.25
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-5)
    with pytest.raises(UserError, match="makes pixels, and nobody knows what the teacher's images were normalised"):
        loop(network(1), network(2), generator=generator)
    for wrong in ({"tanh": True}, {"last_affine": False}):
        with pytest.raises(SpecError, match="ends with it, and has no last batch norm") as error:
            GENERATORS.parse({"name": "convolutional", "sigmoid": True, **wrong})
        assert error.value.path == tuple(wrong)


@pytest.mark.parametrize("name", [name for name in GENERATORS.names() if name != "embeddings"])
def test_statistics_of_batch_norms_reach_every_generator_of_images(name: str) -> None:
    """A step of descent brings what the teacher's batch norms read nearer to what they remember."""
    shape: Shape = (1, 1, 64) if name == "waveform" else (1, 8, 8)
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten())
    teacher.append(nn.Linear(2 * 64, 3))
    for norm in (teacher[0], teacher[2]):  # else the distance is 0 at first, where it has no gradient
        norm.running_mean.fill_(2)  # type: ignore[union-attr, operator]
        norm.running_var.fill_(9)  # type: ignore[union-attr, operator]
    made = Generation(
        *(GENERATORS.parse(name), 6, nn.Identity(), [Teacher(teacher)], [GENERATOR_LOSSES.parse("batch-norm")]),
        *(shape, 3),
        normalisation=KNOWN,
    )
    optimizer = torch.optim.SGD(made.parameters(), lr=1e-4)
    distances = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = made(*made.sample(SEED))["batch-norm"]
        distances.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
    assert distances[1] < distances[0]


def pixel_loop(**settings: Any) -> Loop:
    generator = {"name": "pixels", "jitter": 2, "flip": True}
    return loop(network(1), network(2), generator=generator, losses=["class-prior", "batch-norm"], **settings)


def conditional_loop(**settings: Any) -> Loop:
    generator = {**GENERATOR, "name": "conditional", "embedding": 2}
    return loop(network(1), network(2), generator=generator, losses=["class-prior"], **settings)


@pytest.mark.parametrize("start", [spectral_loop, pixel_loop, conditional_loop])
def test_one_that_is_stopped_ends_with_the_same_bits(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"pseudo_batches": 4, "generator_steps": 3}
    whole = start(**settings)
    whole.run(tmp_path / "whole")

    stopped = start(**settings)
    draw = stopped.generation.sample

    def draw_and_ask_for_a_stop(seed: int, done: int, **share: int) -> Any:
        monkeypatch.setattr(interrupts, "_requested", 2 if done == 1 else None)
        return draw(seed, done, **share)

    monkeypatch.setattr(stopped.generation, "sample", draw_and_ask_for_a_stop)
    with pytest.raises(Interrupted):
        stopped.run(tmp_path / "stopped")
    monkeypatch.setattr(interrupts, "_requested", None)
    resumed = start(**settings)
    torch.randn(5)
    course = resumed.run(tmp_path / "stopped")

    assert course.done == 4
    for ours, theirs in ((resumed.student, whole.student), (resumed.generation, whole.generation)):
        expected = theirs.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())


def test_pixels_are_their_latents_and_what_was_learned() -> None:
    component = GENERATORS.parse("pixels")
    assert component.latent((3, 4, 5)) == 60
    generator = component.build((3, 4, 5), 2, 3)
    assert parameters(generator) == 2 * 60
    latents = torch.randn(2, 60)
    assert torch.equal(generator(latents), latents.view(2, 3, 4, 5))
    with torch.no_grad():
        generator.get_parameter("offset")[1] += 3
    assert torch.equal(generator(latents)[1], latents[1].view(3, 4, 5) + 3)


def test_pixels_are_moved_and_mirrored_as_a_whole() -> None:
    component = GENERATORS.parse({"name": "pixels", "jitter": 1, "flip": True})
    plain = torch.randn(2, 1, 6, 6)
    ways = {
        (down, right, mirrored): (moved.flip(3) if mirrored else moved)
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        for moved in [torch.roll(plain, (down, right), (2, 3))]
        for mirrored in (False, True)
    }
    torch.manual_seed(0)
    seen = set()
    for _ in range(300):
        images = component.moved(plain)
        (way,) = [way for way, expected in ways.items() if torch.equal(images, expected)]
        seen.add(way)
    assert seen == set(ways)


def test_each_pseudo_batch_of_pixels_starts_from_its_own_noise(tmp_path: Path) -> None:
    """One step of Adam moves each pixel by at most its learning rate, from this iteration's latents."""
    rate = 1e-3
    made = loop(
        network(1),
        network(2),
        generator="pixels",
        losses=["class-prior"],
        pseudo_batches=3,
        generator_optimizer={"name": "adam", "lr": rate},
        generator_schedule="constant",
    )
    seen: list[torch.Tensor] = []
    made.student.register_forward_pre_hook(lambda _module, read: seen.append(read[0].clone()))
    made.run(tmp_path)
    per_iteration = len(seen) // 3
    for done in range(3):
        latents, _ = made.generation.sample(SEED, done)
        distance = (seen[done * per_iteration] - latents.view(-1, *SHAPE)).abs().max()
        assert 0 < distance <= rate * 1.01


def test_pixels_learn_the_classes_that_were_asked_for(tmp_path: Path) -> None:
    teacher = network(2)
    made = loop(
        network(1),
        teacher,
        generator="pixels",
        losses=["class-prior"],
        pseudo_batches=1,
        generator_steps=300,
        generator_optimizer={"name": "adam", "lr": 0.5},
        clip=None,
    )
    seen: list[torch.Tensor] = []
    made.student.register_forward_pre_hook(lambda _module, read: seen.append(read[0].clone()))
    made.run(tmp_path)
    latents, targets = made.generation.sample(SEED, 0)
    with torch.no_grad():
        losses = [
            functional.cross_entropy(teacher.eval()(each), targets) for each in (latents.view(-1, *SHAPE), seen[0])
        ]
    assert losses[1] < 0.5 * losses[0]


def test_processes_optimise_their_own_pixels(tmp_path: Path) -> None:
    """What two processes find is what each of them would find alone."""
    torchrun("tests.zero_shot.pixels_apart", tmp_path)
    found = [load_file(tmp_path / f"images-{rank}")["images"] for rank in range(2)]
    for rank, images in enumerate(found):
        expected = pixels_loop().generation
        latents, targets = expected.sample(SEED, 0, rank=rank, processes=2)
        optimizer = torch.optim.Adam(expected.parameters(), lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            expected(latents, targets)["class-prior"].backward()
            optimizer.step()
        torch.testing.assert_close(images, expected.generator(latents).detach())
    assert not torch.equal(*found)
