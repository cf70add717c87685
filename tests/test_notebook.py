"""The notebook of the tutorial runs from top to bottom, and is as short as it says."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial" / "notebook.ipynb"


def cells() -> list[str]:
    content = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def shown(code: str, names: dict[str, Any]) -> Any:
    """Run a cell and return the value of its last line, as a notebook does."""
    *before, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        before, last = [*before, last], ast.Expr(ast.Constant(None))
    exec(compile(ast.Module(before, []), "cell", "exec"), names)  # noqa: S102 - the cells are ours
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307


def test_it_searches_grows_distils_and_draws_in_under_thirty_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    outputs = [shown(code, names) for code in cells()]
    assert sum(bool(line.strip()) for code in cells() for line in code.splitlines()) < 30
    assert str(outputs[0]).endswith("355 test images of 1x8x8 in 10 classes")
    assert outputs[1]._repr_html_().count("<svg") == 2
    assert outputs[4]._repr_html_().count("<svg") >= 2
    assert outputs[-1]["accuracy"]["last"] > 50  # a guess is right once in ten
    assert list(tmp_path.iterdir()) == []
