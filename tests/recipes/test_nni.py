"""What nni's spaces hold goes the whole way: found, trained, distilled, exported; and grown, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nasdistill.models.base import load_network, load_spec
from nasdistill.models.inspection import count_parameters
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import run

pytest.importorskip("nni")

MOBILE = """
name: mobile
data: {name: digits, limit: 100}
engine: {accelerator: cpu}
stages:
  - name: arch
    uses: search
    with:
      space:
        name: nni:mobilenet-v3
        widths: [8, 8, 8, 16, 16]
        multipliers: [0.5, 1.0]
        expansions: [1, 2]
        depth: [1, 2]
        strides: [1, 1, 2, 1, 1]
        activations: [hswish, relu, relu, hswish, hswish]
        squeeze_excite: [none, force]
      strategy: {name: "nni:random-one-shot", epochs: 1, candidates: 1}
  - name: teacher
    uses: train
    with: {model: wrn-10-1, epochs: 1}
  - name: student
    uses: distill
    with: {student: arch, teacher: teacher, epochs: 1, objectives: [kd, attention]}
  - name: out
    uses: export
    with: {network: student, format: [onnx, torch]}
"""


def artifacts_of(recipe: str, out: Path, *overrides: str) -> dict[str, Path]:
    record = run(load_recipe(recipe, overrides), out, f"nasdistill run {recipe}")
    return {row.stage: out / row.folder for row in record.rows if row.folder}


@pytest.mark.slow
def test_the_small_form_of_the_recipe_runs(tmp_path: Path) -> None:
    tiny = (
        "data={name: digits, limit: 100}",
        "engine.accelerator=cpu",
        "stages.student-arch.space={name: 'nni:darts', search_channels: 2, search_cells: 3, channels: 4, cells: 3}",
        "stages.student-arch.strategy.candidates=1",
        "stages.teacher-arch.ratio=1.2",
        "stages.student-export.format=onnx",
        "stages.student-arch,teacher,alone,student.epochs=1",
    )
    artifacts = artifacts_of("nni-darts-two-cores", tmp_path, *tiny)
    networks = {name: load_network(artifacts[name])[1] for name in ("teacher", "student")}
    sizes = {name: count_parameters(network) for name, network in networks.items()}
    assert sizes["teacher"] / sizes["student"] == pytest.approx(1.2, rel=0.06)


def test_a_network_of_nnis_is_distilled_and_exported_and_does_not_grow(tmp_path: Path) -> None:
    import onnxruntime

    recipe = tmp_path / "mobile.yaml"
    recipe.write_text(MOBILE)
    artifacts = artifacts_of(str(recipe), tmp_path / "out")
    spec, network = load_network(artifacts["student"])
    assert (spec.model.registered_name, spec.model.space) == ("nni", "MobileNetV3Space")
    images = torch.randn(3, 1, 8, 8)
    exported = onnxruntime.InferenceSession(next(artifacts["out"].rglob("*.onnx")))
    (logits,) = exported.run(None, {exported.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, network(images).numpy(), rtol=1e-3, atol=1e-4)

    recipe.write_text(
        MOBILE + "  - {name: grown, uses: grow-teacher, with: {student: student, method: uniform, ratio: 2}}\n"
    )
    grown = load_spec(artifacts_of(str(recipe), tmp_path / "out")["grown"])
    assert (grown.model.registered_name, grown.model.model.registered_name) == ("with-widths", "nni")
