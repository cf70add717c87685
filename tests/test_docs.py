"""What the README and the docs tell people to type is what the command line understands."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import nasdistill.api
from docs import tables
from nasdistill.cli.app import build_app
from nasdistill.cli.general import general_in
from nasdistill.cli.stage_commands import example_of
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.recipes.loading import load_recipe
from nasdistill.stages import STAGES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("[hrt]*/*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def told() -> Iterator[tuple[Path, list[str]]]:
    """Every `nasdistill` line of the pages, split into words as a shell does."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] == "nasdistill":
                    yield page, words[1:]


LINES = [pytest.param(words, id=f"{page.stem}: {shlex.join(words)}") for page, words in told()]


def parse(words: list[str]) -> dict[str, object]:
    """Parse without running; a word that the command line does not know raises."""
    command = typer.main.get_command(build_app(general_in(words)))
    with command.make_context("nasdistill", list(words)) as above:
        name, found, rest = command.resolve_command(above, words)  # type: ignore[attr-defined]
        assert found is not None
        with found.make_context(name, list(rest), parent=above) as context:
            return dict(context.params)


@pytest.mark.parametrize("words", [line for line in LINES if not line.values[0][0].startswith("--plugin")])
def test_every_line_is_understood(words: list[str]) -> None:
    if words[0] in ("--help", "--install-completion"):
        return
    plugins = [ROOT / words[at + 1] for at, word in enumerate(words) if word == "--plugin"]
    assert all(plugin.is_file() for plugin in plugins)
    given = parse(words)
    if words[0] == "run" and given["recipe"] == "quickstart":
        overrides = given["overrides"] or []
        assert isinstance(overrides, list | tuple)
        with_plugins = [override for override in overrides if "correlation" not in override]
        assert load_recipe("quickstart", with_plugins).stages


def test_the_readmes_recipe_is_a_recipe(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "README.md", "yaml")
    (tmp_path / "photos.yaml").write_text(text)
    recipe = load_recipe(str(tmp_path / "photos.yaml"))
    assert list(recipe.stages) == ["student-arch", "teacher-arch", "teacher", "student", "product"]


@pytest.mark.parametrize("name", STAGES.names())
def test_the_example_in_a_stages_help_is_understood(name: str) -> None:
    stage = STAGES.get(name)
    program, *words = shlex.split(example_of(stage.command or name, stage))
    assert program == "nasdistill"
    assert parse(words)


def test_the_readmes_program_calls_what_there_is() -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert len(calls) == 6
    for call in calls:
        assert isinstance(call.func, ast.Attribute)
        options = {option.arg: None for option in call.keywords if option.arg is not None}
        inspect.signature(getattr(nasdistill.api, call.func.attr)).bind(*call.args, **options)


def test_links_between_pages_lead_somewhere() -> None:
    generated = ROOT / "docs" / "reference" / "generated"
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            place = (page.parent / target).resolve()
            assert place.exists() or place.parent == generated, f"{page.name}: {target}"


@pytest.mark.parametrize(
    ("page", "words", "asks"),
    [
        ("zero-shot", "except those that need training images", "needs_training_set"),
        ("unlabelled-images", "need the class of each image", "needs_classes"),
    ],
)
def test_objectives_that_are_refused_are_listed(page: str, words: str, asks: str) -> None:
    found = re.search(rf"{words} \(([^)]*)\)", (ROOT / "docs/how-to" / f"{page}.md").read_text())
    assert found is not None
    asking = {name for name in OBJECTIVES.names() if getattr(OBJECTIVES.get(name), asks)}
    assert set(re.findall(r"`([^`]*)`", found[1])) == asking


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in re.findall(r"\bmake ([a-z ]+)", (ROOT / "README.md").read_text()):
        for word in line.split():
            if word in ("it", "what", "them"):
                break
            assert word in targets, line


def test_tables_of_results_are_those_of_their_rows() -> None:
    asked = [found for page in tables.pages() for found in tables.TABLE.finditer(page.read_text())]
    assert len(asked) >= 5
    for page in tables.pages():
        assert tables.rendered(page.read_text()) == page.read_text(), "python -m docs.tables writes them anew"


def test_a_table_has_means_and_paired_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences 1 and 3: their mean is 2, half the interval t(0.975, 1) * sqrt(2) / sqrt(2) = 12.706."""
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    (tmp_path / "results").mkdir()
    rows = [("alone", 0, 80), ("alone", 1, 82), ("taught", 0, 81), ("taught", 1, 85)]
    header = "recipe,stage,uses,seed,last,best,selected,validation,parameters,multiply_adds,latency_ms,seconds\n"
    lines = [f"small,{stage},train,{seed},,,{value},,1200,,,3\n" for stage, seed, value in rows]
    (tmp_path / "results/two.csv").write_text(header + "".join(lines))
    asked = "rows: two\ntitle: network\nstages: {alone: alone, small/taught: taught}\n"
    asked += "columns: [parameters, selected, each seed, over alone, over the one before]\n"
    page = f"<!-- table:\n{asked}-->\nold\n<!-- end -->\n"
    assert tables.rendered(page).splitlines()[6:] == [
        "",
        "| network | parameters | selected | each seed | over alone | over the one before |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| alone | 1,200 | 81.00 ± 1.41 | 80.00, 82.00 |  |  |",
        f"| taught | 1,200 | 83.00 ± 2.83 | 81.00, 85.00 | {' | '.join(2 * ['+2.00 (-10.71 to +14.71)'])} |",
        "",
        "<!-- end -->",
    ]


def test_a_table_of_a_sweep_without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = (
        "recipe,stage,uses,data.name,method,seed,last,best,selected,validation,parameters,multiply_adds,latency_ms,"
    )
    curves = {("mnist", 0): [[9, 30], [20, 50]], ("mnist", 1): [[9, 60], [20, 95]], ("fashion", 0): [[5, 90]]}
    rows = [
        f'r,student,zero-shot,{data},fast,{seed},{curve[-1][1]},,,,,,,,100,"{curve}"\n'
        for (data, seed), curve in curves.items()
    ]
    (tmp_path / "results").mkdir()
    text = f"{header}seconds,taught_by_accuracy,over_time\nr,teacher,train,mnist,,0,,,,,,,,,,\n{''.join(rows)}"
    (tmp_path / "results/minutes.csv").write_text(text)
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    points = {"mnist fast": "digits", "fashion fast": "clothes"}
    columns = ["teacher", "last", "to 50 %", "to 90 %"]
    asked = {"rows": "minutes", "title": "without data", "columns": columns}
    by_stage = {**asked, "stages": {f"student {point}": name for point, name in points.items()}}
    by_point = {**asked, "points": points, "columns": {f"student {column}": column for column in columns}}
    assert tables.table(by_point) == tables.table(by_stage)
    assert tables.table(by_stage).splitlines()[2:] == [
        "| digits | 100.00 ± 0.00 | 72.50 ± 31.82 | 14 s | 20 s (1 of 2 seeds) |",
        "| clothes | 100.00 | 90.00 | 5.0 s | 5.0 s |",
    ]


def test_a_table_of_paired_points_pairs_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = "recipe,stage,uses,stages.arch.method,stages.arch.ratio,seed,last,best,selected"
    scores = {("{name: fisher, per: unit}", "2"): (81, 83), ("uniform", "2"): (80, 80), ("uniform", "3"): (70, 70)}
    rows = [
        f'r,student,distill,"{method}",{ratio},{seed},,,{score}'
        for (method, ratio), by_seed in scores.items()
        for seed, score in enumerate(by_seed)
    ]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "growth.csv").write_text("\n".join([header, "r,arch,grow-teacher,uniform,2,0,,,", *rows]))
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    names = {"arch.ratio=": "ratio ", "{name: fisher, per: unit}": "Fisher"}
    asked = {"rows": "growth", "paired": "stages.arch.method", "stage": "student", "names": names}
    # differences 1 and 3: mean 2, s = sqrt(2), t(0.975, 1) = 12.706
    assert tables.table(asked).splitlines()[2:] == ["| ratio 2 | Fisher over uniform | +2.00 | -10.71 to +14.71 | 2 |"]
