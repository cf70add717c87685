"""Options that change nothing where they stand: they really do nothing, and a plan says so beforehand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nasdistill.component import Facts, Options, idle_options
from nasdistill.data.preparation import facts_of
from nasdistill.distill.objectives import Outputs
from nasdistill.recipes import runner
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES
from nasdistill.training.batches import Batch
from tests.recipes.test_foresight import recipe_of, stage, taught
from tests.stages.parts import few_digits

TWO, TEN = Facts(2), Facts(10)
EVEN = Facts(3, training=(5, 5, 5), validation=(2, 2, 2), read=21, auxiliary=lambda: False)
ODD = Facts(3, training=(5, 5, 6), validation=(2, 2, 3), read=23, auxiliary=lambda: True)
OWN_VALIDATION = Facts(3, read=100, comes_with_validation=True)


def idle(options: Options, facts: Facts) -> list[str]:
    """The places of the options that are told."""
    return [sentence.partition(" has no effect: ")[0] for sentence in idle_options(options, facts)]


def stage_of(uses: str, **options: Any) -> Options:
    networks = {
        "train": {"model": "mlp-8"},
        "distill": {"student": "mlp-8", "teacher": "teacher"},
        "zero-shot": {"student": "mlp-8", "teacher": "teacher"},
        "grow-teacher": {"student": "darts-v2-16-10"},
        "shrink": {"network": "given"},
        "search": {"space": "darts-tiny"},
        "ensemble": {"networks": ["one", "two"]},
    }
    return build(STAGES.get(uses), {**networks[uses], **options})


@pytest.mark.parametrize(
    ("uses", "options", "facts", "told"),
    [
        ("distill", {"objectives": ["dkd"]}, TWO, ["objectives.0.beta"]),
        ("distill", {"objectives": ["dist"]}, TWO, ["objectives.0.beta"]),
        ("distill", {"objectives": ["rld"]}, TWO, ["objectives.0.beta"]),
        (
            "distill",
            {"objectives": [{"name": "rld", "alpha": 0, "alpha_temperature": 2}]},
            TEN,
            ["objectives.0.alpha_temperature"],
        ),
        ("distill", {"objectives": [{"name": "rld", "beta": 0, "temperature": 2}]}, TEN, ["objectives.0.temperature"]),
        ("distill", {"objectives": ["dkpp"]}, TWO, ["objectives.0.the shuffling of dkpp"]),
        ("distill", {"objectives": [{"name": "kd", "standardise": True}]}, TWO, ["objectives.0.weight"]),
        ("distill", {"objectives": ["kd", {"name": "attention", "weight": 0}]}, TEN, ["objectives.1.weight"]),
        ("distill", {"objectives": ["kd", {"name": "attention", "beta": 0}]}, TEN, ["objectives.1.beta"]),
        ("distill", {"objectives": ["kd", {"name": "attention", "warmup": 0.5}]}, TEN, ["objectives.1.warmup"]),
        ("distill", {"objectives": ["kd", {"name": "cross-entropy", "weight": 0}]}, TEN, []),
        (
            "distill",
            {"objectives": ["kd", {"name": "cross-entropy", "weight": 0, "label_smoothing": 0.1}]},
            TEN,
            ["objectives.1.label_smoothing"],
        ),
        ("distill", {"objectives": ["ban"], "label_smoothing": 0.1}, EVEN, ["label_smoothing"]),
        ("distill", {"objectives": ["ban"], "label_smoothing": 0.1}, ODD, []),
        (
            "distill",
            {"objectives": [{"name": "token", "weight": 1, "temperature": 2}], "label_smoothing": 0.1},
            ODD,
            ["label_smoothing", "objectives.0.temperature"],
        ),
        ("distill", {"objectives": ["token"], "auxiliary_weight": 0.3}, ODD, ["auxiliary_weight"]),
        ("distill", {"average": "logits"}, TEN, ["average"]),
        ("distill", {"teacher": ["one", "two"], "average": "logits", "teacher_weights": [1, 2]}, TEN, []),
        ("distill", {"views": 30}, TEN, ["views"]),
        ("distill", {"views": 29}, TEN, []),
        (
            "distill",
            {"objectives": [{"name": "divergence", "divergence": {"name": "wasserstein", "metric": "line"}}]},
            TWO,
            ["objectives.0.divergence.metric"],
        ),
        ("train", {"epochs": 10, "patience": 9}, TEN, ["patience"]),
        ("train", {"epochs": 10, "patience": 8}, TEN, []),
        ("train", {"epochs": 10, "patience": 2, "evaluate_every": 5}, TEN, ["patience"]),
        ("train", {"full_epochs": False}, TEN, ["full_epochs"]),
        ("train", {"full_epochs": False, "images_per_class": 2}, EVEN, []),
        ("train", {"images_per_class": 5}, EVEN, ["images_per_class"]),
        ("train", {"balance": "loss", "select": "balanced-accuracy"}, EVEN, ["balance", "select"]),
        ("train", {"balance": "loss", "select": "balanced-accuracy"}, ODD, []),
        ("train", {"balance": "sampling", "images_per_class": 2}, ODD, ["balance"]),
        ("train", {"auxiliary_weight": 0.3}, EVEN, ["auxiliary_weight"]),
        ("train", {"auxiliary_weight": 0.3}, ODD, []),
        (
            "search",
            {"space": "darts-tiny", "strategy": {"name": "darts", "budget_weight": 2}},
            TEN,
            ["strategy.budget_weight"],
        ),
        (
            "search",
            {"space": "darts-tiny", "strategy": {"name": "darts", "budget_weight": 2}, "budget": "40k"},
            TEN,
            [],
        ),
        ("shrink", {"method": {"name": "l1", "per": "channel"}, "widths": "alike"}, TEN, ["method.per"]),
        ("shrink", {"images": 100}, EVEN, ["images"]),
        ("shrink", {"method": "l1", "statistics": "kept", "images": 10}, EVEN, ["images"]),
        ("shrink", {"method": "l1", "images": 10}, EVEN, []),
        ("grow-teacher", {"method": "uniform", "images": 10}, ODD, ["images"]),
        ("grow-teacher", {"images": 17}, ODD, ["images"]),
        ("grow-teacher", {}, ODD, []),
        ("search", {"strategy": {"name": "nni:random-search", "patience": 4}}, TEN, ["strategy.patience"]),
        ("search", {"strategy": {"name": "nni:random-search", "patience": 4}, "epochs": 9}, TEN, []),
        (
            "search",
            {"strategy": {"name": "nni:random-search", "stop_below_median": 5}},
            TEN,
            ["strategy.stop_below_median"],
        ),
        (
            "search",
            {"strategy": {"name": "darts", "regularisers": [{"name": "beta-decay", "weight": 0}]}},
            TEN,
            ["strategy.regularisers.0.weight"],
        ),
        ("search", {"epochs": 3}, EVEN, ["epochs"]),
        ("search", {"strategy": {"name": "auto", "epochs": 3}}, EVEN, ["strategy.epochs"]),
        ("search", {"epochs": 50}, Facts(10, training=(5000,) * 10), []),
        ("search", {"epochs": 3}, TEN, []),
        ("search", {}, EVEN, []),
        ("ensemble", {"networks": ["one"], "average": "logits"}, TEN, ["average"]),
        ("zero-shot", {"evaluate_every": 500}, Facts(10, images=False), ["evaluate_every"]),
        ("zero-shot", {"evaluate_every": 500}, TEN, []),
        ("zero-shot", {"collapse_below": 0, "on_collapse": "stop"}, TEN, ["on_collapse"]),
        ("zero-shot", {"adapt_optimizer": "sgd"}, TEN, ["adapt_optimizer"]),
        ("zero-shot", {"generator": "pixels", "start_over_every": 5}, TEN, ["start_over_every"]),
        ("zero-shot", {"objectives": [{"name": "ctkd", "curriculum": 0}]}, TEN, []),
        ("zero-shot", {"bank_every": 2, "bank_share": 0.5}, TEN, ["bank_every", "bank_share"]),
        ("zero-shot", {"bank": 1000, "bank_every": 2}, TEN, []),
        ("zero-shot", {"bank": 1000, "student_steps": {0: 1, 0.5: 1}}, TEN, ["bank"]),
        (
            "zero-shot",
            {"generator_losses": ["adversarial", {"name": "one-hot", "weight": 0}]},
            TEN,
            ["generator_losses.1.weight"],
        ),
    ],
)
def test_options_without_effect_are_told(uses: str, options: dict[str, Any], facts: Facts, told: list[str]) -> None:
    assert idle(stage_of(uses, **options), facts) == told


@pytest.mark.parametrize(
    ("options", "facts", "told"),
    [
        ({"limit": 100}, OWN_VALIDATION, ["limit"]),
        ({"limit": 99}, OWN_VALIDATION, []),
        ({"validation": 0.2}, OWN_VALIDATION, ["validation"]),
        ({"validation": 0.2}, TEN, []),
        ({"augmentations": [{"name": "flip", "probability": 0}]}, TEN, ["augmentations.0.probability"]),
        ({"augmentations": ["crop", {"name": "cutmix", "probability": 0}]}, TEN, ["augmentations.1.probability"]),
    ],
)
def test_a_data_sets_options_without_effect_are_told(options: dict[str, Any], facts: Facts, told: list[str]) -> None:
    assert idle(registry("datasets").parse({"name": "digits", **options}), facts) == told


def test_images_that_keep_their_size_are_not_resized(tmp_path: Path) -> None:
    kept = registry("datasets").parse({"name": "image-folder", "root": str(tmp_path), "resize": "pad"})
    assert idle(kept, TEN) == ["resize"]
    assert idle(kept.model_copy(update={"size": (8, 8)}), TEN) == []


@pytest.mark.parametrize("uses", ["train", "distill", "zero-shot", "grow-teacher", "search", "ensemble"])
def test_defaults_are_not_warned_of(uses: str) -> None:
    images = facts_of(few_digits())
    assert (images.classes, sum(images.training), sum(images.validation)) == (10, 96, 60)
    assert idle(stage_of(uses), EVEN if uses != "grow-teacher" else TEN) == []


@pytest.mark.parametrize(
    ("objective", "without"),
    [
        ({"name": "dkd", "beta": 8}, {"name": "dkd", "beta": 0}),
        ({"name": "dist", "beta": 5}, {"name": "dist", "beta": 0}),
        ({"name": "kd", "standardise": True}, None),
        ({"name": "dkpp"}, {"name": "ban"}),
        (
            {"name": "divergence", "divergence": {"name": "wasserstein", "metric": "line"}},
            {"name": "divergence", "divergence": "wasserstein"},
        ),
    ],
)
def test_with_two_classes_they_change_no_gradient(objective: Any, without: Any) -> None:
    torch.manual_seed(0)
    logits, taught_logits = torch.randn(6, 2), torch.randn(6, 2)
    batch = Batch(torch.empty(6, 1, 1, 1), torch.tensor([0, 1, 1, 0, 1, 0]), torch.arange(6))

    def gradient(given: Any) -> torch.Tensor:
        if given is None:
            return torch.zeros_like(logits)
        student = logits.clone().requires_grad_()
        loss = registry("objectives").parse(given).loss(Outputs(student, {}), Outputs(taught_logits, {}), batch)
        loss.backward()
        assert student.grad is not None
        return student.grad

    torch.testing.assert_close(gradient(objective), gradient(without), atol=1e-5, rtol=1e-4)


def test_a_plan_warns_of_them_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for kind, name in enumerate(("neg", "pos")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = np.full((8, 8), 9 * number + 90 * kind, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    data = f"{{name: image-folder, root: {tmp_path / 'photos'}, workers: 0, limit: 500}}"
    first = stage("teacher", "train", model="mlp-8", balance="sampling")
    again = stage("again", "born-again", teacher="teacher", objectives=["dkd"], generations=2, epochs=1)
    with caplog.at_level(logging.WARNING):
        runner.plan(recipe_of(first, taught("dkd"), again, data=data), tmp_path / "out")
    beta = "has no effect: of two classes one is left beside the label's, and nothing to rank (NCKD is 0)"
    assert {record.getMessage() for record in caplog.records} == {
        "teacher, student, again-1, again-2, again: data.limit has no effect: there are 13 images to train on",
        "teacher: balance has no effect: all classes have as many images to train on",
        f"student, again-1, again-2: objectives.0.beta {beta}",
    }
