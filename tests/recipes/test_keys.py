"""Keys hold the code that decides a result, all of it and nothing else."""

from __future__ import annotations

import linecache
import logging
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from nasdistill import closure
from nasdistill.api import Network, save
from nasdistill.artifacts import Artifact, publish
from nasdistill.closure import PLUGIN_FOLDER
from nasdistill.component import classes_in
from nasdistill.distill.objectives import OBJECTIVES
from nasdistill.errors import UserError
from nasdistill.models.base import MODELS, NetworkSpec, load_spec, save_network
from nasdistill.models.foreign import import_network
from nasdistill.plugins import load_plugin
from nasdistill.recipes.provenance import key_of
from nasdistill.registry import build, plugins, registry
from nasdistill.stages import STAGES
from nasdistill.versions import origin_of, origins, version

ROOT = Path(closure.__file__).parent
LOSS = """
import torch
from nasdistill.distill.objectives import OBJECTIVES, Objective
import helper

@OBJECTIVES.register("{name}")
class Loss(Objective):
    "A loss."

    def factor(self):
        return helper.FACTOR
"""
MODEL = """
from torch import nn
from nasdistill.models.base import MODELS, Model

@MODELS.register("one-layer")
class OneLayer(Model):
    "A linear classifier."

    def build(self, shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
"""
OPERATION = """
from torch import nn
from nasdistill.models.operations import OPERATIONS, Operation

@OPERATIONS.register("bend")
class Bend(Operation):
    "An activation."

    def build(self, channels, stride, affine=True):
        return nn.ReLU()
"""
CELL = """
SLOPE = 2

def bend(x):
    return SLOPE * x

@OBJECTIVES.register("mine")
class Mine(Objective):
    "Mine."

    def loss(self, student, teacher, labels):
        return bend(student)
"""


@pytest.fixture(autouse=True)
def _nothing_stays_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for kind in ("stages", "models", "operations", "objectives", "datasets"):
        registry(kind).names()
        monkeypatch.setattr(
            registry(kind), "_components", {name: registry(kind).get(name) for name in registry(kind).loaded()}
        )
    monkeypatch.setattr(plugins, "broken", {})
    yield
    forget_plugins()


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What a process sees that starts after a comment was added to a file of the package."""
    read = Path.read_bytes

    def edited(file: str) -> None:
        assert (ROOT / file).is_file()
        monkeypatch.setattr(closure, "_sources", {})
        monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == ROOT / file))

    return edited


def forget_plugins() -> None:
    for name in [name for name in sys.modules if name.startswith(PLUGIN_FOLDER)]:
        del sys.modules[name]


def key(uses: str, inputs: Mapping[str, str | Artifact] = {}, **options: Any) -> str:
    return key_of(build(STAGES.get(uses), options), inputs, None, {}, seed=0)


def distilled(objective: str) -> str:
    return key("distill", student="wrn-10-1", teacher="teacher", objectives=[objective])


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("how", ["import helper", "from . import helper", "from helper import FACTOR\nimport helper"])
def test_an_edited_helper_makes_another_key_and_is_loaded_anew(how: str, tmp_path: Path) -> None:
    written(tmp_path / "loss.py", LOSS.format(name="scaled").replace("import helper", how))
    written(tmp_path / "helper.py", "FACTOR = 2\n")
    load_plugin(str(tmp_path / "loss.py"))
    assert plugins.broken == {}
    before = distilled("scaled")
    assert distilled("scaled") == before
    written(tmp_path / "helper.py", "FACTOR = 3\n")
    assert distilled("scaled") == before, "what is loaded is what will run"
    load_plugin(str(tmp_path / "loss.py"))
    assert OBJECTIVES.parse("scaled").factor() == 3  # type: ignore[attr-defined]
    assert distilled("scaled") != before


def test_helpers_of_one_name_are_each_their_own_plugins(tmp_path: Path) -> None:
    for name, factor in (("first", 1), ("second", 2)):
        written(tmp_path / name / "loss.py", LOSS.format(name=name))
        written(tmp_path / name / "helper.py", f"FACTOR = {factor}\n")
        load_plugin(str(tmp_path / f"{name}/loss.py"))
    assert [OBJECTIVES.parse(name).factor() for name in ("first", "second")] == [1, 2]  # type: ignore[attr-defined]
    assert "helper" not in sys.modules


def test_where_a_plugin_lies_decides_nothing(tmp_path: Path) -> None:
    keys = []
    for place in ("here", "there"):
        written(tmp_path / place / "model.py", MODEL)
        with pytest.MonkeyPatch.context() as before:
            before.setattr(MODELS, "_components", {name: MODELS.get(name) for name in MODELS.loaded()})
            load_plugin(str(tmp_path / f"{place}/model.py"))
            keys.append(key("train", model="one-layer"))
    assert keys[0] == keys[1]


def test_an_edited_operation_makes_another_key_of_a_search_and_of_what_it_found(tmp_path: Path) -> None:
    node = [["bend", 0], ["skip_connect", 1]]
    genotype = {"normal": [node], "reduce": [node]}
    found: list[list[str]] = []
    for activation in ("ReLU", "Tanh"):
        written(tmp_path / "bend.py", OPERATION.replace("ReLU", activation))
        load_plugin(str(tmp_path / "bend.py"))
        space = {"name": "darts-tiny", "operations": ["none", "bend"]}
        model = {"name": "darts", "genotype": genotype}
        keys = [key("search", space=space, strategy="random"), key("train", model=model)]
        found.append([*keys, key("search", space="darts-tiny", strategy="random"), key("train", model="darts-v2")])
    assert [one == other for one, other in zip(*found, strict=True)] == [False, False, True, True]


def imported(folder: Path) -> Artifact:
    """An artifact with the plug-in's model."""
    payload = folder / "payload"
    payload.mkdir(parents=True)
    save_network(payload, NetworkSpec(model=MODELS.parse("one-layer"), shape=(1, 4, 4), classes=3), None)
    told = {"stage": "imported", "uses": "import", "key": "k", "config": {}, "inputs": {}, "seed": 0, "metrics": {}}
    more: dict[str, Any] = {**told, "cost": {}, "provenance": {"plugins": origins([MODELS.get("one-layer")])}}
    return publish(payload, folder / "made", kind="architecture", **more)


def test_an_edited_model_in_an_input_makes_another_key_of_who_reads_it(tmp_path: Path) -> None:
    keys, contents = [], []
    for edition in ("", "# edited\n"):
        written(tmp_path / "model.py", MODEL + edition)
        load_plugin(str(tmp_path / "model.py"))
        artifact = imported(tmp_path / f"run{len(keys)}")
        keys.append(key("train", {"model": artifact}, model="imported"))
        contents.append(artifact.content)
    assert contents[0] == contents[1], "the spec names the model alone"
    assert keys[0] != keys[1]


def test_an_artifact_says_which_plugin_it_lacks(tmp_path: Path) -> None:
    plugin = written(tmp_path / "model.py", MODEL)
    with pytest.MonkeyPatch.context() as before:
        before.setattr(MODELS, "_components", {name: MODELS.get(name) for name in MODELS.loaded()})
        load_plugin(str(tmp_path / "model.py"))
        spec = NetworkSpec(model=MODELS.parse("one-layer"), shape=(1, 4, 4), classes=3)
        network = spec.build()
        save_file(network.state_dict(), tmp_path / "own.safetensors")
        import_network(spec.model, tmp_path / "own.safetensors", tmp_path / "imported", (1, 4, 4), 3)
        save(Network(spec, network, trained=True), tmp_path / "saved")
        made = [imported(tmp_path / "run").folder, tmp_path / "imported", tmp_path / "saved"]
    for folder in made:
        with pytest.raises(UserError, match=rf"unknown model 'one-layer'.*; it was made with --plugin {plugin}$"):
            load_spec(folder)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("tuning/manager.py", ""),
        ("cli/main.py", ""),
        ("report/page.py", ""),
        ("recipes/runner.py", ""),
        ("api/__init__.py", ""),
        ("search/drawing.py", "search"),
        ("data/sets/svhn.py", "svhn"),
        ("models/wrn.py", "wrn"),
        ("models/operations/darts.py", "search"),
        ("distill/objectives/hints.py", ""),
        ("training/fit.py", "wrn mlp"),
        ("training/optimizers/standard.py", "wrn mlp search"),
        ("training/loggers/jsonl.py", ""),
        ("data/base.py", "wrn mlp search cifar10 svhn"),
    ],
)
def test_an_edited_file_changes_the_keys_of_what_it_computes(
    file: str, changed: str, edit: Callable[[str], None]
) -> None:
    def found() -> dict[str, str]:
        data = {name: version(classes_in(registry("datasets").parse(name))) for name in ("cifar10", "svhn")}
        trained = {name: key("train", model=model) for name, model in (("wrn", "wrn-10-1"), ("mlp", "mlp-16"))}
        return {**data, **trained, "search": key("search", space="darts-tiny", strategy="darts")}

    before = found()
    edit(file)
    after = found()
    assert {name for name in before if before[name] != after[name]} == set(changed.split())


def test_the_order_of_loading_decides_nothing(tmp_path: Path) -> None:
    written(tmp_path / "model.py", MODEL)
    written(tmp_path / "loss.py", LOSS.format(name="scaled"))
    written(tmp_path / "helper.py", "FACTOR = 2\n")
    found = []
    for order in (("model.py", "loss.py"), ("loss.py", "model.py"), ("loss.py", "model.py", "loss.py")):
        forget_plugins()
        with pytest.MonkeyPatch.context() as before:
            for known in (MODELS, OBJECTIVES):
                before.setattr(known, "_components", {name: known.get(name) for name in known.loaded()})
            for file in order:
                load_plugin(str(tmp_path / file))
            classes = [MODELS.get("one-layer"), OBJECTIVES.get("scaled")]
            found.append((key("train", model="one-layer"), distilled("scaled"), origins(classes)))
    assert found[0] == found[1] == found[2]
    assert found[0][2]["models/one-layer"]["how"] == f"--plugin {tmp_path / 'model.py'}"


# --- sessions ---


def cell(text: str, name: str = "<cell 1>", readable: bool = True) -> type[Any]:
    """What a notebook does with a cell."""
    from nasdistill.distill.objectives import Objective

    session = sys.modules.setdefault("a_notebook", types.ModuleType("a_notebook"))
    vars(session).update({"OBJECTIVES": OBJECTIVES, "Objective": Objective})
    if readable:
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), vars(session))  # noqa: S102
    return OBJECTIVES.get("mine")


@pytest.fixture
def _notebook() -> Iterator[None]:
    yield
    sys.modules.pop("a_notebook", None)
    for name in [name for name in linecache.cache if name.startswith("<cell")]:
        del linecache.cache[name]


@pytest.mark.usefixtures("_notebook")
def test_a_cell_is_its_text_and_that_of_what_it_names(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = version([cell(CELL)])
    assert version([cell(CELL, "<cell 2>")]) == first
    assert "the objective 'mine' is defined anew" in caplog.text
    edits = [("SLOPE = 2", "SLOPE = 3"), ("* x", "+ x"), ("bend(student)", "-bend(student)")]
    versions = {version([cell(CELL.replace(*edit), f"<cell {3 + n}>")]) for n, edit in enumerate(edits)}
    assert len(versions | {first}) == 4
    assert version([cell(CELL + "\nunrelated = 1\n", "<cell 9>")]) == first


@pytest.mark.usefixtures("_notebook")
def test_a_cell_that_nobody_can_read_is_never_cached_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    mine = cell(CELL, "<cell gone>", readable=False)
    assert version([mine]) != version([mine])
    assert [record.message for record in caplog.records if "cannot be read" in record.message] == [
        "objectives 'mine' is defined where its source cannot be read again (no source of Mine), so that stages with "
        "it run each time"
    ]


def test_what_standard_input_registers_is_known() -> None:
    script = "from nasdistill.distill.objectives import OBJECTIVES, Objective\n" + CELL
    script += "\nfrom nasdistill.versions import origin_of\nprint(origin_of(OBJECTIVES.get('mine')).name)\n"
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "__main__"


def test_built_in_components_come_from_the_package() -> None:
    assert origin_of(MODELS.get("wrn")).name == "built-in"
    assert origins([MODELS.get("wrn")]) == {}


# --- kinds of one's own ---

GADGET = """
from typing import Annotated, Any, ClassVar
from pydantic import Field
from nasdistill.registry import Component, ComponentOf, Registry
from nasdistill.stages import STAGES, Outcome, Stage

class Gadget(Component):
    "Base of all gadgets."

GADGETS = Registry("gadgets", Gadget, __name__)

@GADGETS.register("lens")
class Lens(Gadget):
    "A lens."
    focus: float = Field(1.0, description="metres")

@STAGES.register("look")
class Look(Stage):
    "Look through a gadget."
    makes: ClassVar[str] = "metrics"
    reads_data: ClassVar[bool] = False
    gadget: Annotated[Any, ComponentOf("gadgets")] = Field("lens", validate_default=True, description="what it uses")

    def run(self, inputs, context):
        return Outcome({})
"""


def test_a_plugin_adds_a_kind_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nasdistill import registry as module
    from nasdistill.cli.main import main
    from nasdistill.cli.names import complete_kind

    monkeypatch.setattr(module, "_registries", dict(module._registries))
    for kind in list(module.KINDS):  # what is added stays in this test
        monkeypatch.setitem(module.KINDS, kind, module.KINDS[kind])
    plugin = str(written(tmp_path / "gadgets.py", GADGET))
    try:
        for command in ("list gadgets", "show gadget lens"):
            assert main([*command.split(), "--plugin", plugin]) == 0
            assert "lens" in capsys.readouterr().out
        assert "gadgets" in complete_kind("gad")
        assert registry("gadget").parse({"name": "lens", "focus": 2}).focus == 2
        assert key("look", gadget={"name": "lens", "focus": 2}) != key("look")
        before = key("look")
        written(tmp_path / "gadgets.py", GADGET + "# edited\n")
        load_plugin(plugin)
        assert plugins.broken == {}
        assert key("look") != before
    finally:
        module.KINDS.pop("gadgets", None)


def test_the_bytes_of_pretrained_weights_decide_and_not_their_place(tmp_path: Path) -> None:
    def key(file: Path, content: bytes, *others: str) -> str:
        file.write_bytes(content)
        model = {"name": "torchvision:resnet18", "pretrained": str(file)}
        stage = build(STAGES.get("score"), {"models": [model, *others]})
        return key_of(stage, {}, None, {}, 0)

    first = key(tmp_path / "one.pth", b"one")
    assert key(tmp_path / "two.pth", b"one") == first
    assert key(tmp_path / "one.pth", b"two") != first
    assert key(tmp_path / "one.pth", b"one", "wrn-10-1") != key(tmp_path / "one.pth", b"one", "wrn-16-1")
