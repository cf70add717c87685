"""Recipes and overrides: what is accepted, and the sentence that each mistake gets."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from nasdistill import resources
from nasdistill.recipes.loading import Recipe, load_recipe, read_recipe, recipe_of_stage
from nasdistill.recipes.overrides import override
from nasdistill.recipes.source import RecipeError, Source, parse
from nasdistill.recipes.trust import run_all
from tests.recipes.toy import RECIPE
from tests.stages.parts import few_digits, network_artifact


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    return path


def load(path: Path, *overrides: str) -> Recipe:
    return load_recipe(str(path), overrides, trust=run_all)


def test_a_recipe_becomes_typed_stages(recipe_file: Path) -> None:
    recipe = load(recipe_file)
    assert recipe.seeds == (1,)
    assert list(recipe.stages) == ["walk", "sum"]
    assert recipe.stages["walk"].model_dump() == {"steps": 4}
    assert recipe.stages["sum"].model_dump() == {"walk": "walk", "scale": 1.0}


def test_overrides_reach_every_value(recipe_file: Path) -> None:
    recipe = load(
        recipe_file, "stages.walk.steps=9", "stages.sum.scale=2e-1", "data.salt=x", "engine.precision='32'", "seed=7"
    )
    assert recipe.stages["walk"].model_dump() == {"steps": 9}
    assert recipe.stages["sum"].model_dump()["scale"] == 0.2
    assert recipe.settings.data.salt == "x"
    assert recipe.settings.engine.precision == "32"
    assert recipe.seeds == (7,)


def test_an_override_reaches_several_stages(tmp_path: Path) -> None:
    stages = "".join(f"  - {{name: {name}, uses: train, with: {{model: mlp-8}}}}\n" for name in ("a", "b", "c"))
    path = tmp_path / "three.yaml"
    path.write_text(f"name: three\nstages:\n{stages}")
    recipe = load(path, "stages.a,c.optimizer={name: sgd, lr: 0.3}", "stages.c.optimizer.lr=0.4")
    rates = {name: stage.model_dump()["optimizer"]["lr"] for name, stage in recipe.stages.items()}
    assert rates == {"a": 0.3, "b": 0.1, "c": 0.4}


def test_an_override_enters_lists_by_index(recipe_file: Path) -> None:
    assert load(recipe_file, "seeds=[3, 4, 5]", "seed=null", "seeds.1=9").seeds == (3, 9, 5)


def test_an_override_changes_a_part_of_a_default(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: r\nstages:\n  - {name: a, uses: train, with: {model: wrn-10-1}}\n")
    recipe = load(path, "stages.a.optimizer.lr=0.7", "data.validation=0.3")
    optimizer = recipe.stages["a"].model_dump()["optimizer"]
    assert (optimizer["name"], optimizer["lr"]) == ("sgd", 0.7)
    assert recipe.settings.data.spec()["name"] == "digits"
    path.write_text("name: r\nstages:\n  - {name: a, uses: distill, with: {student: wrn-10-1, teacher: .}}\n")
    with pytest.raises(RecipeError, match="holds no artifact"):
        load(path, "stages.a.objectives.0.temperature=2")


def test_an_artifact_takes_the_place_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = network_artifact(tmp_path / "made", few_digits(), "mlp-8").folder
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: r\nstages:\n  - {name: t, uses: train, with: {model: wrn-10-1}}\n"
        "  - {name: s, uses: distill, with: {student: mlp-8, teacher: t}}\n"
    )
    monkeypatch.chdir(tmp_path)
    recipe = load(path, "stages.t.artifact=made")
    assert {name: stage.model_dump()["teacher"] for name, stage in recipe.stages.items()} == {"s": str(made)}
    written = tmp_path / "elsewhere" / "again.yaml"
    written.parent.mkdir()
    written.write_text(recipe.text())
    assert load(written).stages == recipe.stages
    with pytest.raises(RecipeError, match=r"stages\.t\.artifact: .*/none' is no artifact: it holds no artifact.json"):
        load(path, "stages.t.artifact=none")
    with pytest.raises(RecipeError, match=r":2: stages: nothing is left to run: an artifact takes the place of every"):
        load(path, "stages.t,s.artifact=made")
    with pytest.raises(RecipeError, match=r"stages\.t\.uses: unknown stage 'tarin'; did you mean 'train'"):
        load(path, "stages.t.artifact=made", "stages.t.uses=tarin")


def test_a_stage_that_is_never_made_is_told_with_the_one_that_stood_for_it(tmp_path: Path) -> None:
    made = network_artifact(tmp_path / "made", few_digits(), "mlp-8").folder
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: r\nstages:\n  - {name: b, uses: born-again, with: {model: mlp-8, generations: 1}}\n"
        "  - {name: s, uses: distill, with: {student: mlp-8, teacher: b-0}}\n"
    )
    with pytest.raises(
        RecipeError, match=r"stages\.s\.teacher: 'b-0' is never made: an artifact takes the place of 'b'"
    ):
        load(path, f"stages.b.artifact={made}")


def test_options_of_a_stage_that_an_artifact_stands_for_are_refused_where_they_were_typed(tmp_path: Path) -> None:
    made = network_artifact(tmp_path / "made", few_digits(), "mlp-8").folder
    path = tmp_path / "r.yaml"
    path.write_text("name: r\nstages:\n  - {name: t, uses: train}\n  - {name: s, uses: train, with: {model: mlp-8}}\n")
    ready = f"stages.t.artifact={made}"
    idle = "has no effect: an artifact takes the place of 't'"
    with pytest.raises(RecipeError, match=rf"^override 'stages.s,t.epochs=1': stages.t.epochs {idle}"):
        load(path, ready, "stages.s,t.epochs=1")
    swept = {"stages.t.epochs": 1}
    with pytest.raises(RecipeError, match=rf"^--sweep stages.t.epochs: stages.t.epochs {idle}"):
        load_recipe(str(path), [ready], swept=swept)
    whole = f"stages.t={{name: t, uses: train, artifact: {made}}}"
    axis = load_recipe(str(path), [whole, "stages.s.epochs=1"], swept=swept, by="the recipe's sweep")
    assert list(axis.stages) == ["s"]


@pytest.mark.parametrize("other", ["{name: t, uses: train}", "{name: t-1, uses: train}"])
def test_no_stage_has_the_name_of_one_that_an_artifact_stands_for(tmp_path: Path, other: str) -> None:
    made = network_artifact(tmp_path / "made", few_digits(), "mlp-8").folder
    path = tmp_path / "r.yaml"
    stage = "{name: t, uses: born-again, with: {model: mlp-8, generations: 1}}"
    for first, second in ((stage, other), (other, stage)):
        path.write_text(f"name: r\nstages:\n  - {first}\n  - {second}\n")
        source, _folder = read_recipe(str(path))
        source.data["stages"][0 if first == other else 1]["artifact"] = str(made)
        with pytest.raises(RecipeError, match=r"the stage name '(t|t-1)' stands here twice"):
            load_recipe(source)


def test_the_text_written_down_is_the_recipe_that_ran(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load(recipe_file, "stages.walk.steps=9", "data.salt='1e5'")
    again = tmp_path / "again.yaml"
    again.write_text(recipe.text())
    assert load(again).stages == recipe.stages
    assert load(again).settings == recipe.settings


def test_a_command_is_a_recipe_with_one_stage(recipe_file: Path) -> None:
    recipe = recipe_of_stage("toy-walk", {"steps": 3}, overrides=["steps=5", "data.salt=b"], data="toy-data", seed=2)
    assert list(recipe.stages) == ["toy-walk"]
    assert recipe.settings.data.salt == "b"
    assert recipe.stages["toy-walk"].model_dump() == {"steps": 5}
    assert recipe.seeds == (2,)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("seed: 1", "sed: 1"), r"toy\.yaml:2: sed: unknown key 'sed'; did you mean 'seed'\?"),
        (("seed: 1", "seed: -1"), r"toy\.yaml:2: seed: .*at least 0, got -1"),
        (("seed: 1", "seeds: []"), r"toy\.yaml:2: seeds"),
        (("seed: 1", "seed: true"), r"toy\.yaml:2: seed: must be an integer, got True"),
        (("seed: 1", "seeds: [0, true]"), r"toy\.yaml:2: seeds\.1: must be an integer, got True"),
        (("checkpoint_seconds: 1e-9", "checkpoint_seconds: 1e999"), r"toy\.yaml:4: checkpoint_seconds: .*finite"),
        (("seed: 1", "seed: 1\nseeds: [1]"), r"toy\.yaml:3: seeds: give either seed or seeds"),
        (("name: toy", "name: ../toy"), r"toy\.yaml:1: name"),
        (("name: toy\n", ""), r"toy\.yaml:1: name: the key 'name' is missing"),
        (
            ("data: toy-data", "data: toydata"),
            r"yaml:3: data.*unknown dataset 'toydata'; did you mean 'toy-data'\?",
        ),
        (("data: toy-data", "data: {name: toy-data, slat: x}"), r"toy\.yaml:3: data\.slat: .*did you mean 'salt'\?"),
        (("uses: toy-walk", "uses: toywalk"), r"toy\.yaml:7: .*unknown stage 'toywalk'; did you mean 'toy-walk'\?"),
        (("steps: 4", "step: 4"), r"toy\.yaml:8: .*unknown key 'step'; did you mean 'steps'\?"),
        (("steps: 4", "steps: many"), r"toy\.yaml:8: stages\.walk\.steps: .*integer.*got 'many'"),
        (("steps: 4", "steps: 0"), r"toy\.yaml:8: .*greater than 0, got 0"),
        (
            ("walk: walk", "walk: wlak"),
            r"yaml:12: .*unknown stage or artifact folder 'wlak'; did you mean 'walk'\?",
        ),
        (
            ("walk: walk", "walk: sum"),
            r"yaml:12: .*'sum' is a toy-sum stage and makes metrics, but an architecture",
        ),
        (("      walk: walk\n", "      scale: 1\n"), r"the key 'walk' is missing"),
        (("name: sum", "name: walk"), r"toy\.yaml:9: .*'walk' stands here twice"),
        (("stages:", "stages: 3\nx:"), r"toy\.yaml"),
        (("data: toy-data", "data: [toy-data]"), r"toy\.yaml:3: data: a dataset is a name or a mapping"),
        (("data: toy-data", "data: torch.nn.Linear"), r"unknown dataset 'torch\.nn\.Linear'"),
    ],
)
def test_a_mistake_gets_one_sentence_with_its_line(change: tuple[str, str], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    assert change[0] in RECIPE
    path.write_text(RECIPE.replace(*change, 1))
    with pytest.raises(RecipeError, match=sentence) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["Genotype(normal=[1], # 97.2 %\n  reduce=[2])", "|none~0|+|none~0|skip_connect~1|"])
def test_cells_as_others_write_them_are_text_though_no_yaml(text: str) -> None:
    source = Source("here", {"a": 1})
    override(source, f"a={text}", "override")
    assert source.data == {"a": text}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("stages.wlak.steps=3", "unknown stage 'wlak'; did you mean 'walk'"),
        ("stages.sum,wlak.scale=3", "unknown stage 'wlak'; did you mean 'walk'"),
        ("stages.walk.stesp=3", "unknown key 'stesp'; did you mean 'steps'"),
        ("stages.walk.stesp.x=3", "^override 'stages.walk.stesp.x=3': .*unknown key 'stesp'; did you mean 'steps'"),
        ("stages.walk.steps", "write it as key.path=value"),
        ("seed.x=3", "there is nothing below 'seed'"),
        ("stages.walk.steps=[", "not valid YAML"),
        ("stages.walk.steps=!!python/none x", "tag"),
    ],
)
def test_a_wrong_override_is_told_in_a_sentence(override: str, sentence: str, recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=sentence):
        load(recipe_file, override)


@pytest.mark.parametrize(
    ("text", "override", "sentence"),
    [
        ("", "seed=1", "toy.yaml: a recipe is a mapping with a name and stages"),
        ("- a", "0=1", "toy.yaml:1: a recipe is a mapping with a name and stages"),
        *(
            (f"name: a\nstages: {stages}", "stages.a.b=1", "override 'stages.a.b=1': the recipe's stages are no list")
            for stages in ("5", "", "{a: {uses: walk}}")
        ),
    ],
)
def test_an_override_of_what_is_no_recipe(text: str, override: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(text)
    with pytest.raises(RecipeError, match=sentence):
        load_recipe(str(tmp_path / "toy.yaml"), [override])


def test_circles_are_found_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: x\ndata: toy-data\nstages:\n"
        "  - {name: a, uses: toy-link, with: {walk: c}}\n"
        "  - {name: b, uses: toy-link, with: {walk: a}}\n"
        "  - {name: c, uses: toy-link, with: {walk: b}}\n"
    )
    with pytest.raises(RecipeError, match=r"r\.yaml:[456]: .*in a circle: . -> . -> . -> .") as caught:
        load(path)
    around = str(caught.value).rsplit(": ", 1)[1].split(" -> ")
    assert around[0] == around[-1]
    assert sorted(around[1:]) == ["a", "b", "c"]


def test_an_unknown_recipe_names_those_that_come_along() -> None:
    shipped = sorted(path.stem for path in resources.recipes().glob("*.yaml"))
    with pytest.raises(RecipeError) as caught:
        load_recipe("no-such-recipe")
    assert all(name in str(caught.value) for name in shipped)


def test_a_broken_plugin_is_named_and_the_rest_still_loads(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no such luck')\n")
    path = tmp_path / "toy.yaml"
    path.write_text("plugins: [broken.py]\n" + RECIPE)
    assert list(load(path).stages) == ["walk", "sum"]
    path.write_text("plugins: [broken.py]\n" + RECIPE.replace("toy-walk", "toy-run"))
    with pytest.raises(RecipeError, match=r"broken\.py.*no such luck"):
        load(path)


@pytest.mark.parametrize("name", ["os.system", "antigravity", "nasdistill.cli:main", "__import__('os')", "../toy"])
def test_names_that_look_like_code_resolve_nowhere_and_import_nothing(name: str, tmp_path: Path) -> None:
    """Reliability S3."""
    path = tmp_path / "toy.yaml"
    load(_written(path, RECIPE))
    before = set(sys.modules)
    for place in ("toy-data", "toy-walk"):
        with pytest.raises(RecipeError):
            load(_written(path, RECIPE.replace(place, f'"{name}"')))
    assert set(sys.modules) == before


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_every_recipe_that_comes_along_is_valid_and_has_a_header() -> None:
    for path in resources.recipes().glob("*.yaml"):
        text = path.read_text()
        assert text.startswith("#"), f"{path.name} tells neither source, command nor expected result"
        assert parse(text).data["name"] == path.stem


def test_what_a_header_calls_smaller_is_valid() -> None:
    for path in resources.recipes().glob("*.yaml"):
        header = path.read_text().partition("\nname:")[0].replace("\\\n#", "")
        told = re.search(r"^# Smaller: +(.*(?:\n#    .*)*)", header, re.MULTILINE)
        if told is None:
            continue
        line = re.sub("--only [^ ]+", "", told[1].replace("\n#", ""))
        named = re.search(r"nasdistill run ([\w-]+)", line)
        words = [word.rstrip(",;.") for word in shlex.split(line)]
        load_recipe(named[1] if named else path.stem, [word for word in words if re.match(r"[a-z][\w.,-]*=", word)])


def test_a_recipes_budget_is_that_of_the_stages_that_give_none(tmp_path: Path) -> None:
    def recipe(*stages: str, budget: str = "budget: {parameters: 300k}") -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text("\n".join(["name: small", budget, "stages:", *stages]))
        return load_recipe(path, ["budget.parameters=100k"])

    fit, own, train = (
        "  - {name: fit, uses: fit-size, with: {network: wrn-16-1}}",
        "  - {name: own, uses: fit-size, with: {network: wrn-16-1, budget: 60k}}",
        "  - {name: train, uses: train, with: {model: fit}}",
    )
    found = recipe(fit, own, train).stages
    assert [found[name].spec()["budget"]["parameters"] for name in ("fit", "own")] == [100_000, 60_000]
    with pytest.raises(RecipeError, match=":2: budget: no stage here keeps a budget"):
        recipe("  - {name: train, uses: train, with: {model: wrn-16-1}}")
    made = network_artifact(tmp_path / "made", few_digits(), "mlp-8").folder
    left_out = recipe(train, f"  - {{name: fit, uses: fit-size, artifact: {made}}}")
    assert list(left_out.stages) == ["train"]
