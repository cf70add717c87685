"""What decides an artifact: the plugins that take part in it, wherever a config names their components; the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nasdistill.plugins import load_plugin
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.provenance import classes_of, engine_of
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES
from nasdistill.versions import origins

MODEL = '''
from torch import nn

from nasdistill.models.base import MODELS, Model


@MODELS.register("one-layer")
class OneLayer(Model):
    """A linear classifier."""

    def build(self, shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
'''


def test_a_model_that_a_stage_names_is_a_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = registry("models")
    models.names()
    monkeypatch.setattr(models, "_components", {name: models.get(name) for name in models.loaded()})
    (tmp_path / "one_layer.py").write_text(MODEL)
    load_plugin(str(tmp_path / "one_layer.py"))
    for model in ("one-layer", {"name": "one-layer"}):
        found = origins(classes_of(build(STAGES.get("train"), {"model": model}), {}))
        assert list(found) == ["models/one-layer"]
        assert found["models/one-layer"]["name"] == "one_layer.py"
    assert origins(classes_of(build(STAGES.get("train"), {"model": "wrn-16-1"}), {})) == {}


def test_the_number_of_processes_decides_where_each_has_batch_norms_of_its_own() -> None:
    def engine(*settings: str) -> dict[str, Any]:
        return engine_of(load_recipe("quickstart", [f"engine.{setting}" for setting in ("accelerator=cpu", *settings)]))

    alone = engine()
    assert engine("devices=2") == engine("sync_batch_norm=false") == alone
    shares = engine("devices=2", "sync_batch_norm=false")
    assert (shares["sync_batch_norm"], shares["processes"]) == (False, 2)
