"""A stage of its own kind for the tests of the command line, and processes to run it in."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nasdistill.cli.main import main
from nasdistill.closure import PLUGIN_FOLDER
from nasdistill.registry import plugins
from nasdistill.stages import STAGES

if TYPE_CHECKING:
    from tests.cli.mistakes import Prepare

SECONDS = 15
"""Far more than telling any mistake takes, also on a machine that is busy."""

STAGE_PLUGIN = '''
"""A stage that trains nothing: it writes down what it was given."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nasdistill.registry import ComponentOf
from nasdistill.stages import STAGES, Outcome, Reference, Stage
from nasdistill.storage import write_json


@STAGES.register("echo")
class Echo(Stage):
    """Write down the options.

    Nothing else happens.
    """

    makes = "metrics"
    reads_data = False

    model: Annotated[str, Reference("architecture", or_model=True)] = Field(description="what [to] echo")
    loud: bool = Field(False, description="shout")
    times: int = Field(3, gt=0, description="how often")
    share: float | None = Field(None, description="a share, if any")
    how: Literal["up", "down"] = Field("up", description="the direction")
    where: Path = Field(Path("here"), description="a place")
    words: tuple[str, ...] = Field(("a", "b"), description="some words")
    optimizer: Annotated[Any, ComponentOf("optimizers")] = Field("sgd", validate_default=True, description="a rule")
    rules: list[Annotated[Any, ComponentOf("optimizers")]] = Field(default_factory=list, description="more rules")
    pairs: tuple[tuple[str, str], ...] | None = Field(None, description="pairs of words")
    data: str = Field("none", description="hidden behind the option of all stages")

    def run(self, inputs, context):
        if self.how == "down":
            raise RuntimeError("down is not possible")
        write_json(context.folder / "echo.json", self.model_dump(mode="json"))
        return Outcome({"parameters": 7, "accuracy": {"last": 50.0, "best": 75.0, "selected": 60.0 + context.seed}})
'''


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A file that adds the stage `echo`; `tmp_path` is the folder to run in."""
    path = tmp_path / "echo_stage.py"
    path.write_text(STAGE_PLUGIN)
    return path


@pytest.fixture
def nasdistill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run the command in this process, in `tmp_path`; plugins are as before afterwards."""
    monkeypatch.chdir(tmp_path)
    STAGES.names()  # what comes along is loaded once for all tests
    monkeypatch.setattr(STAGES, "_components", {name: STAGES.get(name) for name in STAGES.loaded()})
    monkeypatch.setattr(plugins, "broken", {})  # what other tests broke is not this one's
    modules = set(sys.modules)

    def run(*arguments: str) -> Done:
        status = main(arguments)
        told = capfd.readouterr()
        return Done(status, told.out, told.err)

    yield run
    for name in set(sys.modules) - modules:
        if name.startswith(PLUGIN_FOLDER):
            del sys.modules[name]


@pytest.fixture
def sentence(nasdistill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Prepare], str]:
    """What the tool says to a mistake; all else that must hold for any mistake is asserted."""

    def said(command: str, prepare: Prepare) -> str:
        prepare(monkeypatch)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        began = time.monotonic()
        done = nasdistill(*shlex.split(command)[1:], "--quiet")
        assert time.monotonic() - began < SECONDS
        assert done.returncode == 2, done.stderr
        *warnings, told = done.stderr.splitlines()
        assert [line for line in warnings if f"the plugin {tmp_path}/mine.py is left out: " not in line] == []
        assert told.startswith("nasdistill: ")
        assert not (tmp_path / "code-was-run").exists()
        assert {path: path.read_bytes() for path in before if path.is_file()} == before, "what was there is as it was"
        told = told.removeprefix("nasdistill: ").replace(str(tmp_path), "/home/you")
        return re.sub(r"\(known: [^)]*\)", "(known: ...)", told)

    return said


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """Run the command in a process of its own, in `tmp_path`."""

    def run(*arguments: str, **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "nasdistill", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run
