"""Names, shorthands, origins and plugins of the registry, and the sentences that wrong specs get."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter

from nasdistill import registry as module
from nasdistill.closure import PLUGIN_FOLDER
from nasdistill.errors import SpecError, UserError
from nasdistill.plugins import load_plugin
from nasdistill.registry import KINDS, Component, ComponentOf, Origin, Registry, plugins, registry

HERE = Path(__file__).parent


class Widget(Component):
    """Base of the test's own kind."""

    def turn(self, by: float, *, slowly: bool = False) -> None: ...


@pytest.fixture(autouse=True)
def _nothing_stays_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for kind in list(KINDS):
        registry(kind)
    monkeypatch.setattr(plugins, "broken", {})
    yield
    module._registries.pop("widgets", None)
    for name in [name for name in sys.modules if name.startswith((PLUGIN_FOLDER, "no_widgets"))]:
        del sys.modules[name]


@pytest.fixture
def widgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Widget]:
    """A registry of widgets whose built-in package is empty, and with `size` and `gear` registered."""
    package = tmp_path / "no_widgets"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(KINDS, "widgets", "no_widgets")
    made = Registry("widgets", Widget, "no_widgets")

    @made.register("gear")
    class Gear(Widget):
        """A gear. Shorthand: `gear-TEETH`."""

        teeth: int = Field(12, gt=2, description="teeth")
        ratios: list[float] = Field([], description="ratios")
        material: Annotated[Any, Field(description="what it is made of")] = "steel"

        @classmethod
        def parse_shorthand(cls, text: str) -> dict[str, Any] | None:
            name, _, teeth = text.partition("-")
            return {"teeth": int(teeth)} if name == "gear" and teeth.isdigit() else None

    @made.register("spring")
    class Spring(Widget):
        """A spring."""

        stiffness: float = Field(gt=0, description="newtons per metre")

    return made


def install(folder: Path, entry_points: str, name: str = "toy-plugin", version: str = "1.2", **files: str) -> None:
    """What `pip install` leaves of a package with entry points."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(text)


WIDGET_FILE = """
from tests.test_registry import Widget

class Pulley(Widget):
    "A pulley."
"""
REGISTERED_FILE = """
from nasdistill.registry import _registries
from tests.test_registry import Widget

@_registries["widgets"].register("pulley")
class Pulley(Widget):
    "A pulley."
"""


def version_of(module: str, text: str) -> str:
    """Of a plug-in that imports nothing of its own."""
    content = json.dumps([[module, hashlib.sha256(text.encode()).hexdigest()]])
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def test_every_kind_has_a_registry_whose_components_say_what_they_are() -> None:
    for kind in KINDS:
        for name in registry(kind).names():
            component = registry(kind).get(name)
            assert component.__doc__, f"{kind} {name} has no docstring"
            for field, info in component.model_fields.items():
                assert info.description, f"{kind} {name} has no description of {field}"


def test_kinds_are_known_by_their_singular_too_and_unknown_ones_get_the_nearest() -> None:
    assert registry("objective") is registry("objectives")
    assert registry("strategy") is registry("strategies")
    with pytest.raises(UserError, match="unknown kind 'objectifs'; did you mean 'objectives'"):
        registry("objectifs")


def test_components_are_built_from_names_mappings_and_shorthands(widgets: Registry[Widget]) -> None:
    assert widgets.parse("gear").spec() == {"name": "gear", "teeth": 12, "ratios": [], "material": "steel"}
    assert widgets.parse({"name": "gear", "teeth": "20"}) == widgets.parse("gear-20")
    assert widgets.parse({"name": "gear-20", "material": "brass"}).spec()["material"] == "brass"
    gear = widgets.parse("gear-30")
    assert widgets.parse(gear) is gear
    assert widgets.parse(json.loads(json.dumps(gear.spec()))) == gear


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        ("geer", (), "unknown widget 'geer'; did you mean 'gear'? (known: gear, spring)"),
        ({"name": "geer"}, ("name",), "unknown widget 'geer'; did you mean 'gear'? (known: gear, spring)"),
        ({"teeth": 3}, ("name",), "a widget needs a name (known: gear, spring)"),
        ({"name": 3}, ("name",), "a widget needs a name (known: gear, spring)"),
        (7, (), "a widget is a name or a mapping with a name and options, got 7"),
        ({"name": "gear", "tooth": 3}, ("tooth",), "unknown key 'tooth'; did you mean 'teeth'?"),
        ({"name": "gear", "teeth": 2}, ("teeth",), "must be greater than 2, got 2"),
        ({"name": "gear", "ratios": [1, "x"]}, ("ratios", 1), "must be a number, got 'x'"),
        ({"name": "spring"}, ("stiffness",), "the key 'stiffness' is missing"),
        ({"name": "spring", "stiffness": float("nan")}, ("stiffness",), "got nan"),
        ("spring", ("stiffness",), "the key 'stiffness' is missing"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    widgets: Registry[Widget], value: object, path: tuple[str | int, ...], problem: str
) -> None:
    with pytest.raises(SpecError) as error:
        widgets.parse(value)
    assert error.value.path == path
    assert problem in error.value.problem


def test_a_name_belongs_to_one_component(widgets: Registry[Widget]) -> None:
    class Other(Widget):
        """Another gear."""

    with pytest.raises(UserError, match=r"the widget name 'gear' is taken by .*Gear; register .*Other under another"):
        widgets.register("gear")(Other)
    with pytest.raises(UserError, match="must be a subclass of Widget, got <class 'int'>"):
        widgets.register("number")(int)  # type: ignore[type-var]
    assert widgets.names() == ["gear", "spring"]


def test_plugins_cannot_replace_what_is_built_in(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from nasdistill.distill.objectives import OBJECTIVES, Objective\n"
        "@OBJECTIVES.register('kd')\nclass Mine(Objective):\n    'Mine.'\n"
    )
    before = registry("objectives").get("kd")
    load_plugin(str(tmp_path / "mine.py"))
    assert (
        "the objective name 'kd' is taken by nasdistill.distill.objectives" in plugins.broken[str(tmp_path / "mine.py")]
    )
    assert registry("objectives").get("kd") is before


def test_origins_tell_built_in_from_file() -> None:
    assert registry("objectives").origin("kd") == Origin("built-in", "")


# --- plugins given by file or module ---


def test_a_plugin_file_is_loaded_and_recorded_with_its_hash(widgets: Registry[Widget], tmp_path: Path) -> None:
    (tmp_path / "pulleys.py").write_text(REGISTERED_FILE)
    load_plugin(str(tmp_path / "pulleys.py"))
    load_plugin(str(tmp_path / "pulleys.py"))  # a recipe and the command line may name the same one
    assert plugins.broken == {}
    how = f"--plugin {tmp_path / 'pulleys.py'}"
    assert widgets.origin("pulley") == Origin("pulleys.py", version_of("pulleys", REGISTERED_FILE), how)
    assert widgets.parse("pulley").spec() == {"name": "pulley"}


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        ("import a_library_that_is_not_there\n", "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("def broken(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        (
            "    def turn(self, by): ...\n",
            "UserError: line 8: Pulley.turn(self, by) is called as Widget.turn(self, by, *, slowly=False) is",
        ),
    ],
)
def test_a_broken_plugin_is_named_and_leaves_nothing_behind(
    widgets: Registry[Widget], tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, why: str
) -> None:
    (tmp_path / "half.py").write_text(REGISTERED_FILE + ending)
    load_plugin(str(tmp_path / "half.py"))
    assert why in plugins.broken[str(tmp_path / "half.py")]
    assert f"the plugin {tmp_path / 'half.py'} is left out: {why}" in caplog.text
    assert widgets.names() == ["gear", "spring"]
    with pytest.raises(SpecError, match=r"unknown widget 'pulley'.*the plugin '.*half.py' did not load"):
        widgets.get("pulley")
    (tmp_path / "half.py").write_text(REGISTERED_FILE)  # mended
    load_plugin(str(tmp_path / "half.py"))
    assert plugins.broken == {}
    assert widgets.names() == ["gear", "pulley", "spring"]


def test_what_a_broken_plugin_made_load_stays(tmp_path: Path) -> None:
    """A plugin that is the first to ask for built-in components must not take them along when it fails."""
    (tmp_path / "early.py").write_text(
        "from nasdistill.registry import registry\nregistry('objectives').names()\n1 / 0\n"
    )
    script = (
        "from nasdistill.plugins import load_plugin\nfrom nasdistill.registry import registry\n"
        f"load_plugin({str(tmp_path / 'early.py')!r})\n"
        "print(registry('objectives').get('kd').__name__)"
    )
    assert run_python(script).strip() == "KnowledgeDistillation"


def test_a_missing_plugin_is_named(tmp_path: Path) -> None:
    load_plugin(str(tmp_path / "nowhere.py"))
    load_plugin("no.such.module")
    assert plugins.broken[str(tmp_path / "nowhere.py")].startswith("FileNotFoundError: ")
    assert "No module named 'no'" in plugins.broken["no.such.module"]


def test_a_plugin_module_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_module_of_mine.py").write_text("found = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    load_plugin("a_module_of_mine")
    assert sys.modules["a_module_of_mine"].found
    assert plugins.broken == {}


# --- plugins installed as packages ---


def test_installed_plugins_are_known_without_being_imported(widgets: Registry[Widget], tmp_path: Path) -> None:
    install(tmp_path, "[nasdistill.widgets]\npulley = toy_pulleys:Pulley\n", toy_pulleys=WIDGET_FILE)
    assert widgets.names() == ["gear", "pulley", "spring"]
    assert "toy_pulleys" not in sys.modules
    widgets.parse("gear")
    assert "toy_pulleys" not in sys.modules
    assert widgets.parse("pulley").spec() == {"name": "pulley"}
    origin = widgets.origin("pulley")
    assert origin.name == "toy-plugin"
    assert origin.version == f"1.2, {version_of('toy_pulleys', WIDGET_FILE)}"
    assert origin.how == "pip install toy-plugin==1.2"


def test_an_installed_plugin_may_use_the_decorator_too(widgets: Registry[Widget], tmp_path: Path) -> None:
    decorated = REGISTERED_FILE.replace("pulley", "rope")
    install(tmp_path, "[nasdistill.widgets]\nrope = toy_ropes:Pulley\n", toy_ropes=decorated)
    assert widgets.get("rope").__name__ == "Pulley"
    assert widgets.origin("rope").name == "toy-plugin"


def test_an_installed_plugin_that_fails_is_named_and_takes_nothing_down(
    widgets: Registry[Widget], tmp_path: Path
) -> None:
    install(
        tmp_path,
        "[nasdistill.widgets]\nlever = toy_levers:Lever\nnut = toy_nuts:Nut\n",
        toy_levers="raise ImportError('needs a longer arm')\n",
        toy_nuts="Nut = 'no class'\n",
    )
    with pytest.raises(SpecError) as error:
        widgets.parse({"name": "lever"})
    assert error.value.path == ("name",)
    assert "the plugin 'toy-plugin' offers widget 'lever' but" in error.value.problem
    assert "ImportError: needs a longer arm" in error.value.problem
    with pytest.raises(SpecError, match="must be a subclass of Widget, got 'no class'"):
        widgets.get("nut")
    assert set(plugins.broken) == {"toy_levers:Lever", "toy_nuts:Nut"}
    assert widgets.parse("gear-9").spec()["teeth"] == 9


def test_two_offers_of_one_name_are_told(
    widgets: Registry[Widget], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, "[nasdistill.widgets]\nbolt = toy_one:Bolt\n", "toy-one", toy_one=WIDGET_FILE)
    install(tmp_path, "[nasdistill.widgets]\nbolt = toy_two:Bolt\n", "toy-two", toy_two=WIDGET_FILE)
    assert widgets.names().count("bolt") == 1
    assert len(plugins.broken) == 1
    ((left_out, why),) = plugins.broken.items()
    assert {left_out, why.split()[-1]} == {"toy_one:Bolt", "toy_two:Bolt"}
    assert "the widget name 'bolt' is taken by" in caplog.text


def run_python(script: str, *path: Path) -> str:
    """What a fresh process prints."""
    paths = os.pathsep.join([*map(str, path), str(HERE.parent)])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_package_installed_by_pip_brings_an_objective_and_a_growth_method(tmp_path: Path) -> None:
    source = shutil.copytree(HERE / "plugin_package", tmp_path / "source")
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    script = """
import json, sys
from nasdistill.errors import UserError
from nasdistill.registry import plugins, registry
objectives, growth = registry("objectives"), registry("growth-methods")
known = {*objectives.names(), *growth.names()}
said = {"known": {"huber", "unfinished", "kd", "standstill"} <= known}
said["imported by listing"] = sorted(name for name in sys.modules if name.startswith("huber_plugin"))
try:
    objectives.parse("unfinished")
except UserError as error:
    said["error"] = str(error)
said["huber"] = objectives.parse({"name": "huber", "delta": 2}).spec()
said["growth imported by an objective"] = "huber_plugin.growth" in sys.modules
said["standstill"] = growth.parse({"name": "standstill", "ratio": 3}).ratio
said["origin"] = objectives.origin("huber").version.split(",")[0]
said["broken"] = list(plugins.broken)
print(json.dumps(said))
"""
    said = json.loads(run_python(script, target))
    assert said.pop("error") == (
        "the plugin 'huber-plugin' offers objective 'unfinished' but does not load "
        "(ImportError: needs a library that is not there)"
    )
    assert said == {
        "known": True,
        "imported by listing": [],
        "huber": {"name": "huber", "weight": 1.0, "warmup": 0.0, "delta": 2.0},
        "growth imported by an objective": False,
        "standstill": 3.0,
        "origin": "1.2.3",
        "broken": ["huber_plugin.unfinished:Unfinished"],
    }


def test_a_field_that_holds_a_component_says_so_in_the_schema() -> None:
    adapter = TypeAdapter(Annotated[Any, ComponentOf("objectives")])
    assert adapter.json_schema() == {"x-component": "objectives"}
    assert adapter.dump_python(adapter.validate_python("kd"))["name"] == "kd"
