"""A stage's command is made from its config: every field an option, every value on its way into the recipe."""

from __future__ import annotations

import json
from pathlib import Path

from nasdistill.data.preparation import load
from nasdistill.registry import registry
from nasdistill.stages import STAGES
from nasdistill.stages.base import references
from tests.cli.conftest import Command
from tests.stages.parts import network_artifact


def echoed(folder: Path) -> dict[str, object]:
    (found,) = (folder / "runs" / "echo" / "artifacts").glob("*/echo.json")
    content: dict[str, object] = json.loads(found.read_text())
    return content


def test_a_plugins_stage_is_a_command_with_its_fields_as_options(nasdistill: Command, plugin: Path) -> None:
    told = nasdistill("echo", "--help", "--plugin", plugin.name).stdout
    assert "Write down the options." in told
    for words in (
        "--times <int>",
        "how often  [default: 3]",
        "--how <up|down>",
        "--where <path>",
        "--loud / --no-loud",
    ):
        assert words in told
    assert "--optimizer <name|mapping>" in told
    assert "--devices <int>" in told, "the engine's settings belong to every stage"
    assert told.endswith("Example: nasdistill echo --model wrn-16-1\n")


def test_every_kind_of_value_arrives_as_it_was_meant(nasdistill: Command, plugin: Path) -> None:
    done = nasdistill(
        *("echo", "wrn-10-1", "--plugin", plugin.name, "--times", "2", "--loud", "--share", "1e-3", "--where", "a/b"),
        *("--words", "x", "--words", "null", "--optimizer", "{name: sgd, lr: 0.2}", "--rules", "adam"),
        *(
            "--rules",
            "{name: sgd, lr: 1}",
            "--pairs",
            "[a, b]",
            "--set",
            "data=mine",
            "--set",
            "optimizer.momentum=0.5",
        ),
    )
    assert done.returncode == 0, done.stderr
    told = echoed(plugin.parent)
    assert told["model"] == "wrn-10-1"
    assert (told["times"], told["loud"], told["share"], told["how"]) == (2, True, 1e-3, "up")
    assert told["where"] == str(plugin.parent / "a" / "b")
    assert told["words"] == ["x", "null"], "a word is not YAML"
    assert told["pairs"] == [["a", "b"]]
    assert told["data"] == "mine", "a field that the command line has for all stages is reached with --set"
    optimizer = told["optimizer"]
    assert isinstance(optimizer, dict)
    assert (optimizer["name"], optimizer["lr"], optimizer["momentum"]) == ("sgd", 0.2, 0.5)
    rules = told["rules"]
    assert isinstance(rules, list)
    assert [rule["name"] for rule in rules] == ["adam", "sgd"]


def test_a_list_of_components_may_be_given_at_once(nasdistill: Command, plugin: Path) -> None:
    done = nasdistill("echo", "--model", "wrn-10-1", "--plugin", plugin.name, "--rules", "[adam, {name: sgd, lr: 1}]")
    assert done.returncode == 0, done.stderr
    rules = echoed(plugin.parent)["rules"]
    assert isinstance(rules, list)
    assert [rule["name"] for rule in rules] == ["adam", "sgd"]


def test_setting_a_part_of_a_default_keeps_the_rest_of_it(nasdistill: Command, plugin: Path) -> None:
    done = nasdistill("echo", "wrn-10-1", "--plugin", plugin.name, "--set", "optimizer.lr=0.05")
    assert done.returncode == 0, done.stderr
    optimizer = echoed(plugin.parent)["optimizer"]
    assert isinstance(optimizer, dict)
    assert (optimizer["name"], optimizer["lr"]) == ("sgd", 0.05)


MNIST = ("--data", "mnist", "--data-root", "pictures")


def test_only_what_was_given_stands_in_the_recipe(nasdistill: Command, plugin: Path) -> None:
    nasdistill("echo", "wrn-10-1", "--how", "up", "--plugin", plugin.name, "--seeds", "3,4", *MNIST)
    recipe = (plugin.parent / "runs" / "echo" / "recipe.yaml").read_text()
    for words in ("how: up", f"root: {plugin.parent}/pictures", "name: mnist", "seeds: [3, 4]"):
        assert words in recipe
    assert "times" not in recipe


def test_results_show_mean_and_deviation_over_seeds_and_where_the_report_is(nasdistill: Command, plugin: Path) -> None:
    first = nasdistill("echo", "wrn-10-1", "--plugin", plugin.name, "--seeds", "0,1", "--out", "here")
    assert "60.50 ± 0.71" in first.stdout, first.stderr  # of 60 and 61: the sample deviation is sqrt(1/2)
    assert "60.00, 61.00" in first.stdout
    assert first.stdout.rstrip().endswith("report: here/report.html")
    again = nasdistill("echo", "wrn-10-1", "--plugin", plugin.name, "--seeds", "0,1", "--out", "here")
    assert [line.split()[-1] for line in again.stdout.splitlines() if line.startswith(" echo")] == ["yes"]


def test_mistakes_are_told_in_one_sentence(nasdistill: Command, plugin: Path) -> None:
    for arguments, words in {
        ("echo",): "echo needs --model, which may also be its first word without the flag",
        ("echo", "a", "--model", "b"): "--model is given twice: 'b' and 'a'",
        ("echo", "wrn-10-1", "--times", "0"): "greater than 0",
        ("echo", "wrn-10-1", "--times", "many"): "--times",
        ("echo", "wrn-10-1", "--optimizer", "{name: sgdd}"): "did you mean 'sgd'",
        ("echo", "wrn-10-1", "--optimizer", "{name: sgd"): "not valid YAML",
        ("echo", "wrn-10-1", "--how", "sideways"): "'up', 'down'",
        ("echo", "wrn-10-1", "--seed", "one"): "--seed takes a whole number, or several as 0,1,2; got 'one'",
        ("echo", "wrn-10-1", "--tims", "3"): "--times",
        ("ecko", "wrn-10-1"): "Did you mean 'echo'",
    }.items():
        done = nasdistill(*arguments, "--plugin", plugin.name)
        assert done.returncode == 2, arguments
        assert words in done.stderr, arguments
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_what_breaks_in_a_plug_in_is_named_and_debug_shows_the_traceback(nasdistill: Command, plugin: Path) -> None:
    short = nasdistill("echo", "wrn-10-1", "--how", "down", "--plugin", plugin.name, "--quiet")
    assert short.returncode == 2
    assert short.stderr.startswith("nasdistill: the stage 'echo' (echo) broke in a plug-in, at ")
    assert "RuntimeError: down is not possible; --debug shows the traceback" in short.stderr
    assert f"{plugin.name}, line " in short.stderr
    full = nasdistill("echo", "wrn-10-1", "--how", "down", "--plugin", plugin.name, "--debug")
    assert full.returncode == 2
    assert "Traceback" in full.stderr


def test_every_option_of_every_stage_has_a_meaning() -> None:
    for name in STAGES.names():
        stage = STAGES.get(name)
        assert stage.__doc__, name
        for field, info in stage.model_fields.items():
            assert info.description, f"{name}.{field} has no description"
        for field in references(stage):
            assert field in stage.model_fields


def test_a_stage_of_two_networks_takes_both_as_words(nasdistill: Command, tmp_path: Path) -> None:
    data = load(registry("datasets").parse("digits"), 0)
    for name in ("first", "second"):
        network_artifact(tmp_path / name, data, "mlp-8")
    done = nasdistill("compare", "first", "second", "--images", "2", "--steps", "2", "--quiet")
    assert done.returncode == 0, done.stderr
    recipe = (tmp_path / "runs" / "compare" / "recipe.yaml").read_text()
    assert f"student: {tmp_path}/first" in recipe
    assert f"teacher: {tmp_path}/second" in recipe
    mixed = nasdistill("compare", "first", "--teacher", "second", "--images", "2", "--steps", "2", "--quiet")
    assert mixed.returncode == 0, mixed.stderr
    work, figures = (line.split() for line in mixed.stdout.splitlines() if line.startswith(" compare"))
    assert work[-1] == "yes", "it is the same recipe, so the work is done"
    assert figures[1:3] == ["0.0000", "100.00"], "both networks were drawn from one seed"
    for words, told in {
        (): "compare needs --student, which may also be its first word without the flag",
        ("first",): "compare needs --teacher, which may also be its second word without the flag",
        ("first", "second", "--teacher", "third"): "compare: --teacher is given twice: 'third' and 'second'",
        ("first", "second", "third"): "unexpected extra argument",
    }.items():
        wrong = nasdistill("compare", *words)
        assert wrong.returncode == 2, words
        assert told in wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1
    assert "Usage: nasdistill compare [OPTIONS] [STUDENT] [TEACHER]\n" in nasdistill("compare", "--help").stdout


def test_a_stage_of_several_networks_takes_them_as_words(nasdistill: Command, tmp_path: Path) -> None:
    data = load(registry("datasets").parse("digits"), 0)
    for name, model in (("first", "mlp-8"), ("second", "mlp-9"), ("third", "mlp-10")):
        network_artifact(tmp_path / name, data, model)
    done = nasdistill("ensemble", "first", "second", "--beside", "third", "--weights", "[2, 1]", "--quiet")
    assert done.returncode == 0, done.stderr
    with_flags = (
        "--networks",
        "first",
        "--networks",
        "second",
        "--beside",
        "third",
        "--weights",
        "2",
        "--weights",
        "1",
    )
    again = nasdistill("ensemble", *with_flags, "--quiet")
    assert again.returncode == 0, again.stderr
    (work,) = (line.split() for line in again.stdout.splitlines() if line.startswith(" ensemble"))
    assert work[-1] == "yes", "it is the same recipe, so the work is done"
    for words, told in {
        (): "ensemble needs --networks, which may also be its first word without the flag",
        ("first", "--networks", "second"): "ensemble: --networks is given twice: ['second'] and ['first']",
        ("first", "first"): f"--networks.1: '{tmp_path}/first' stands here twice, which would count one network as two",
        ("first", "secnd"): "--networks.1: unknown stage or artifact folder 'secnd'",
    }.items():
        wrong = nasdistill("ensemble", *words)
        assert wrong.returncode == 2, words
        assert told in wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1
    told = nasdistill("ensemble", "--help").stdout
    assert "Usage: nasdistill ensemble [OPTIONS] [NETWORKS]...\n" in told
    assert "--networks <str> " in told
    assert "Example: nasdistill ensemble runs/first/stages/train runs/second/stages/train" in " ".join(told.split())


def test_a_search_that_goes_on_needs_only_to_know_until_when(nasdistill: Command, tmp_path: Path) -> None:
    space = "{name: darts-tiny, nodes: 1, search_channels: 2, search_cells: 3, operations: [sep_conv_3x3, none]}"
    began = ("--space", space, "--data", "{name: digits, limit: 100}", "--seed", "3", "--keep-supernet")
    assert nasdistill("search", *began, "--epochs", "1", "--strategy", "darts").returncode == 0
    assert nasdistill("search", "--resume-from", "runs/search", "--epochs", "2").returncode == 0
    search = tmp_path / "runs" / "search" / "stages" / "search"
    assert [epoch for epoch, _model in json.loads((search / "history.json").read_text())["found"]] == [0, 1, 2]
    manifest = json.loads((search / "artifact.json").read_text())
    assert (manifest["seed"], manifest["provenance"]["data"]["limit"]) == (3, 100)
    again = nasdistill("search", "--resume-from", "runs/search", "--epochs", "2")
    assert "--epochs: epochs done so far: 2" in again.stderr
