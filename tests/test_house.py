"""Rules of the house that no linter knows: no unpickling, described options, quick help (reliability S2)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import get_args

import grimp
import networkx
import pytest
from pydantic import BaseModel

import nasdistill
from nasdistill.recipes.experiment import TuneSettings
from nasdistill.recipes.schema import RecipeFile, StageEntry
from nasdistill.registry import KINDS, registry
from nasdistill.training.engine import EngineSettings

PACKAGE = Path(nasdistill.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_unpickles_evaluates_or_starts_a_shell(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not UNPICKLERS & {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.split(".")[0] not in UNPICKLERS
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            assert called not in ("eval", "exec", "__import__", "os.system", "yaml.load", "yaml.unsafe_load")
            assert options.get("shell", "False") == "False"
            assert options.get("allow_pickle", "False") == "False"
            if called == "torch.load":
                assert options.get("weights_only") == "True"


def described(model: type[BaseModel]) -> list[str]:
    """The fields of a config, nested ones included, that say nothing."""
    silent = []
    for name, field in model.model_fields.items():
        if not field.description:
            silent.append(f"{model.__name__}.{name}")
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                silent += described(part)
    return silent


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_every_component_is_described(kind: str) -> None:
    names = registry(kind).names()
    assert names
    for name in names:
        component = registry(kind).get(name)
        assert component.__doc__
        assert described(component) == []


@pytest.mark.parametrize("model", [RecipeFile, StageEntry, EngineSettings, TuneSettings])
def test_every_option_of_a_recipe_is_described(model: type[BaseModel]) -> None:
    assert described(model) == []


def test_names_and_help_need_no_torch() -> None:
    code = "import sys, nasdistill.registry as r; [r.registry(k) for k in r.KINDS]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Between rooms the layers see to it; this looks inside them, at imports within functions too."""
    graph = grimp.build_graph("nasdistill", cache_dir=None)
    imports = networkx.DiGraph((m, i) for m in graph.modules for i in graph.find_modules_directly_imported_by(m))
    assert [circle for circle in networkx.strongly_connected_components(imports) if len(circle) > 1] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 420
