"""Generators that are told the class: what they read, and that they make what is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Normalisation
from nasdistill.errors import UserError
from nasdistill.zero_shot.generators import GENERATORS
from tests.zero_shot.parts import CLASSES, GENERATOR, SEED, SHAPE, Loop, loop, network

KNOWN = Normalisation(mean=(0.4,), std=(0.25,))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("embedding", [None, 2])
def test_a_conditional_generator_reads_the_class_behind_the_latents(embedding: int | None) -> None:
    """Its first layer is one of latents and one of classes; other classes make other images of the same latents."""
    torch.manual_seed(0)
    component = GENERATORS.parse({**GENERATOR, "name": "conditional", "embedding": embedding})
    generator = component.build(SHAPE, 4, CLASSES)
    latents, targets = torch.randn(4, component.latent(SHAPE)), torch.tensor([0, 2, 1, 2])
    first, *others = generator.layers
    table = torch.eye(CLASSES) if embedding is None else generator.table
    linear = latents @ first.weight[:, :5].T + table[targets] @ first.weight[:, 5:].T + first.bias
    torch.testing.assert_close(generator(latents, targets), nn.Sequential(*others)(linear))
    assert not torch.allclose(generator(latents, targets)[0], generator(latents, targets + (targets == 0).int())[0])
    plain = parameters(GENERATORS.parse(GENERATOR).build(SHAPE, 4, CLASSES))
    inputs, learned = (CLASSES, 0) if embedding is None else (embedding, CLASSES * embedding)
    assert parameters(generator) == plain + inputs * 4 * 2 * 2 + learned


def test_it_learns_to_make_the_classes_that_are_drawn(tmp_path: Path) -> None:
    """Asked with latents and classes of iterations that it never saw, where `convolutional` cannot know."""
    asked = {}
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8, CLASSES))
    for name in ("convolutional", "conditional"):
        made = loop(
            *(network(1), teacher),
            generator={**GENERATOR, "name": name},
            losses=["class-prior"],
            objectives=["divergence"],
            batch_size=64,
            pseudo_batches=60,
            student_steps=1,
            generator_optimizer={"name": "adam", "lr": 0.02},
        )
        made.run(tmp_path / name)
        latents, targets = made.generation.sample(SEED, 1000)
        with torch.no_grad():
            said = made.generation.teacher_ensemble(made.generation.images(latents, targets))[0].logits
        asked[name] = float((said.argmax(1) == targets).float().mean())
    assert asked["conditional"] > 0.7 > 0.5 > asked["convolutional"]


def noisy_loop(**settings: Any) -> Loop:
    generator = {"name": "noisy-layer", "width": 6, "channels": 4, "embeddings": settings.pop("embeddings", None)}
    given = {"losses": ["class-prior"], "normalisation": KNOWN, **settings}
    return loop(network(1), network(2), generator=generator, **given)


@pytest.mark.parametrize("numbers", [None, 5])
def test_a_noisy_layer_makes_one_image_of_each_class(numbers: int | None, tmp_path: Path) -> None:
    """Eight images of three classes: three layers, each as a linear layer of torch's; the last one makes two images.

    They read one-hot rows, or those of a file.
    """
    table, file = torch.eye(CLASSES), None
    if numbers is not None:
        table, file = torch.randn(CLASSES, numbers), tmp_path / "names.npy"
        np.save(file, table.numpy())
    generation = noisy_loop(embeddings=file).generation
    generator = generation.generator
    _, targets = generation.sample(SEED, 0)
    assert [sorted(each.tolist()) for each in targets.split(CLASSES)[:2]] == [[0, 1, 2]] * 2
    assert len(set(targets.split(CLASSES)[2].tolist())) == 2
    told = table[targets]
    normed = (told - told.mean(0)) / (told.var(0, correction=0) + 1e-5).sqrt()
    noisy = generator.noisy
    assert noisy.weight.shape == (3, numbers or CLASSES, 6)
    rows = [
        functional.linear(part, weight.T, bias)
        for part, weight, bias in zip(normed.split(CLASSES), noisy.weight, noisy.bias, strict=True)
    ]
    expected = generator.layers(torch.cat(rows))
    torch.testing.assert_close(generator(torch.empty(8, 0), targets), expected)
    assert len(expected.flatten(1).unique(dim=0)) == 8, "no two images are alike"
    assert 0 < expected.min() < expected.max() < 1


def test_noisy_layers_are_drawn_for_each_pseudo_batch_and_the_others_learn_on(tmp_path: Path) -> None:
    made = noisy_loop(pseudo_batches=3, generator_steps=2, student_steps=1)
    generator = made.generation.generator
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    generator.register_forward_pre_hook(
        lambda *_: seen.append((generator.noisy.weight.detach().clone(), generator.layers[0].weight.detach().clone()))
    )
    made.run(tmp_path)
    starts, ends = seen[::3], seen[2::3]
    for number in range(2):
        (noise, layer), (new_noise, new_layer) = ends[number], starts[number + 1]
        assert torch.equal(layer, new_layer)
        assert (noise - new_noise).abs().median() > 0.3
    assert all(not torch.equal(start[0], end[0]) for start, end in zip(starts, ends, strict=True)), "they learn too"
    everything = torch.cat([noise.flatten() for noise, _ in starts])
    assert abs(everything.mean()) < 5 / len(everything) ** 0.5
    assert abs(everything.var() - 1) < 5 * (2 / len(everything)) ** 0.5


def test_a_noisy_layer_has_no_latents_that_could_learn() -> None:
    with pytest.raises(UserError, match="'noisy-layer' has no latents that could learn"):
        noisy_loop(latent_speed=1)
