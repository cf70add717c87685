"""The field's pairs: every loss of the recipe applies to every pair, and each has what others report."""

from __future__ import annotations

import pytest
from torch import nn

from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.models.base import MODELS
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.sweep import axes_of

SHAPE = (3, 32, 32)


def test_published_figures_have_the_names_of_the_axes() -> None:
    published = load_recipe("cifar100-pairs").settings.published
    assert published is not None
    axes = axes_of("cifar100-pairs")
    students = published.accuracy["student"]
    assert isinstance(students, dict)
    assert list(students) == list(axes["pair"])
    for found in (published.accuracy["teacher"], published.accuracy["alone"]):
        assert isinstance(found, dict)
        assert list(found) == list(axes["pair"])
    for of_pair in students.values():
        assert isinstance(of_pair, dict)
        assert of_pair.keys() <= axes["loss"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["cifar100-pairs", "pairs-short"])
def test_every_loss_applies_to_every_pair(recipe: str) -> None:
    axes = axes_of(recipe)
    losses = {name: settings["stages.student.objectives"] for name, settings in axes["loss"].items()}
    built: dict[str, nn.Module] = {}
    for pair, settings in axes["pair"].items():
        teacher, student = (
            built.setdefault(str(settings[key]), MODELS.parse(settings[key]).build(SHAPE, 100))
            for key in ("stages.teacher.model", "stages.student.student")
        )
        for loss, objectives in losses.items():
            for objective in objectives:
                assert OBJECTIVES.parse(objective).bind(student, teacher, SHAPE), (pair, loss)
